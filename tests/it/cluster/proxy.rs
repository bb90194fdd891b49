//! A TCP proxy on loopback that can be cut off and that can delay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It passes, after this long.
    Open(Duration),
    /// Nothing passes, and no connection ends: as a network that drops all packets.
    Silent,
    /// Connections are ended, and none are let in.
    Cut,
}

/// The proxy. It goes with its last owner.
pub struct Proxy {
    address: SocketAddr,
    way: Arc<watch::Sender<Way>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `target`, open.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let way = Arc::new(watch::Sender::new(Way::Open(Duration::ZERO)));
        let ways = Arc::clone(&way);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *ways.borrow() != Way::Cut {
                    tokio::spawn(connect(client, target, ways.subscribe()));
                }
            }
        });
        Self { address, way, accepting }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lets everything pass.
    pub fn open(&self) {
        self.way.send_replace(Way::Open(Duration::ZERO));
    }

    /// Lets everything pass, each piece after `delay`.
    pub fn delay(&self, delay: Duration) {
        self.way.send_replace(Way::Open(delay));
    }

    /// Lets nothing pass, and ends nothing.
    pub fn silence(&self) {
        self.way.send_replace(Way::Silent);
    }

    /// Ends all connections, and refuses new ones.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn connect(client: TcpStream, target: u16, mut way: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (up, down) = (pass(from_client, to_server, way.clone()), pass(from_server, to_client, way.clone()));
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let open = way.wait_for(|way| *way != Way::Silent).await.map(|way| *way);
        match open {
            Ok(Way::Open(delay)) if delay.is_zero() => {}
            Ok(Way::Open(delay)) => tokio::time::sleep(delay).await,
            _ => return,
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
