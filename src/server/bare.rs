//! The listeners with something else behind them: what `make bench` compares the whole with.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use jiff::Timestamp;

use super::machine::write_addresses;
use super::{ServerError, fatal, listen, pki, rotation};

/// Serves `router` with the doors' own connections, with TLS as the Kubernetes door and without as the gateway, and with
/// none of their layers; the certificates are those of `dir`, where the addresses are written to as a server's are.
///
/// # Errors
/// It could not start. It ends only so.
pub async fn serve_bare(dir: &Path, address: SocketAddr, router: Router) -> Result<(), ServerError> {
    super::raise_file_limit();
    let listener = listen::bind(address, "the bare server's address").await.map_err(fatal)?;
    let plain = listen::bind(address, "the bare server's address").await.map_err(fatal)?;
    let plain_at = plain.local_addr().map_err(fatal)?;
    let at = listener.local_addr().map_err(fatal)?;
    let pki = pki::prepare(dir, at, Timestamp::now()).map_err(fatal)?;
    let certificates = rotation::Certificates::new(&pki).map_err(fatal)?;
    let tls = rotation::tls(certificates);
    write_addresses(dir, at, plain_at)?;
    let served = listen::always(router);
    let with_tls = listen::Door { listener, tls: Some(tls), served: served.clone() }.serve(listen::Stop::default());
    let without = listen::Door { listener: plain, tls: None, served }.serve(listen::Stop::default());
    tokio::join!(with_tls, without);
    Ok(())
}
