//! The Kubernetes door's listener with something else behind it: what `make bench` compares the whole with.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use jiff::Timestamp;

use super::machine::write_addresses;
use super::{ServerError, fatal, listen, pki, rotation};

/// Serves `router` with the Kubernetes door's own connections and TLS, and with none of its layers; the
/// certificates are those of `dir`, where its address is written to as a server's is.
///
/// # Errors
/// It could not start. It ends only so.
pub async fn serve_bare(dir: &Path, address: SocketAddr, router: Router) -> Result<(), ServerError> {
    super::raise_file_limit();
    let listener = listen::bind(address, "the bare server's address").await.map_err(fatal)?;
    let at = listener.local_addr().map_err(fatal)?;
    let pki = pki::prepare(dir, at, Timestamp::now()).map_err(fatal)?;
    let certificates = rotation::Certificates::new(&pki).map_err(fatal)?;
    let tls = rotation::tls(certificates);
    write_addresses(dir, at, at)?;
    listen::Door { listener, tls: Some(tls), router }.serve(listen::Stop::default()).await;
    Ok(())
}
