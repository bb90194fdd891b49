//! A server on one machine: its data, its certificates and its users are in one directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;

use super::critical::Critical;
use super::{Opened, ServerError, fatal, pki, rotation};
use crate::auth::users::Tokens;
use crate::auth::{Authenticator, Authorities, Authorizer};
use crate::clock::SharedClock;
use crate::storage::embedded::{Embedded, Options};

/// What is where.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Whether the sample catalogue is loaded into an empty store.
    pub demo: bool,
}

/// What the person who started the server is told of its files.
#[derive(Debug)]
pub struct Files {
    /// The administrator's kubeconfig, an absolute path.
    pub kubeconfig: PathBuf,
    /// The data directory, an absolute path.
    pub data_dir: PathBuf,
}

impl Machine {
    /// Opens the data directory, for a server that listens at `kube`.
    pub(super) async fn open(
        &self,
        kube: SocketAddr,
        clock: &SharedClock,
        tasks: &mut Critical,
    ) -> Result<Opened, ServerError> {
        let (storage, close) = open_storage(&self.data_dir, clock).await?;
        // The lock on the data is ours: now its other files may be touched.
        let pki = pki::prepare(&self.data_dir, kube, clock.now()).map_err(fatal)?;
        let certificates = rotation::Certificates::new(&pki).map_err(fatal)?;
        // When the CA's certificate is made anew it keeps its key, so that what it signed goes on being trusted.
        let authorities = Authorities::new([pki.ca.clone()]).map_err(fatal)?;
        tasks.spawn("the rotation of certificates", {
            let (dir, clock, certificates) = (self.data_dir.clone(), Arc::clone(clock), Arc::clone(&certificates));
            async move { rotation::keep_fresh(&dir, kube, clock, certificates).await }
        });
        let tokens = Arc::new(Tokens::new(&self.data_dir));
        let authenticator = Authenticator::local(Some(tokens), Some(authorities), Arc::clone(clock));
        tasks.spawn("the look at the tokens", {
            let authenticator = authenticator.clone();
            async move { authenticator.watch_tokens().await }
        });
        Ok(Opened { storage, certificates, authenticator, authorizer: Authorizer::Rules, close })
    }

    /// Says where the server is, for scripts (it may have been given port 0) and for people.
    pub(super) fn announce(&self, kube: SocketAddr, http: SocketAddr) -> Result<Files, ServerError> {
        write_addresses(&self.data_dir, kube, http)?;
        let data_dir = std::path::absolute(&self.data_dir).map_err(fatal)?;
        Ok(Files { kubeconfig: data_dir.join("kubeconfig"), data_dir })
    }
}

/// Opens the data in `dir`, and says what closes it in order.
pub(super) async fn open_storage(
    dir: &Path,
    clock: &SharedClock,
) -> Result<(Arc<Embedded>, BoxFuture<'static, ()>), ServerError> {
    let (dir, clock) = (dir.to_owned(), Arc::clone(clock));
    let opening = tokio::task::spawn_blocking(move || Embedded::open(&dir, Options::default(), clock));
    let storage = opening.await.map_err(fatal)?.map_err(fatal)?;
    let closing = Arc::clone(&storage);
    let close = Box::pin(async move {
        // Its panics are caught inside.
        let _ = tokio::task::spawn_blocking(move || closing.close()).await;
    });
    Ok((storage, close))
}

/// For scripts: where a server that was given port 0 listens, and which process it is.
pub(super) fn write_addresses(dir: &Path, kube: SocketAddr, http: SocketAddr) -> Result<(), ServerError> {
    let text = serde_json::json!({
        "kube": kube.to_string(), "http": http.to_string(), "pid": std::process::id(),
    });
    pki::write(&dir.join("addresses.json"), text.to_string().as_bytes()).map_err(fatal)
}
