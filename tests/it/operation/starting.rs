//! A server that is told to stop while it starts.

use std::process::Stdio;

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::{Client, Launch, image, path, run, within};

/// Enough for a start that takes a while.
const IMAGES: usize = 3000;

/// A port below those that the system gives to outgoing connections.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_240..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Starts the program on `data` and sends it `signal` when it listens and has been asked so often. What it said.
async fn interrupted(data: &str, signal: Signal, asks: usize) -> String {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagehub"));
    command.args(["serve", "--data-dir", data, "--kube-listen", "127.0.0.1:0", "--http-listen", &address]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().expect("the program starts");
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).expect("it runs");
    // It hears signals before it listens.
    let listens = async {
        while TcpStream::connect(&address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within("the gateway to listen", listens).await;
    let gateway = Client::plain(&address);
    for _ in 0..asks {
        let asked = gateway.try_request(Method::GET, "/readyz", &[], bytes::Bytes::new()).await;
        let asked = asked.expect("it listens").status;
        assert!([200, 503].contains(&asked), "{asked}");
    }
    kill_process(pid, signal).expect("it runs");
    let ended = within("its end", child.wait_with_output()).await.expect("it can be waited for");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{signal:?} after {asks}: {said}");
    assert!(said.contains("stopped") && !said.contains("panicked"), "{signal:?} after {asks}: {said}");
    said
}

/// The revisions and the objects of a store, as `check` tells them.
async fn contents(data: &str) -> Vec<String> {
    let checked = run(std::path::Path::new("/"), &["check", data], &[], "").await;
    let told = |line: &&str| ["revisions", "objects", "sound"].iter().any(|word| line.starts_with(word));
    let lines: Vec<String> = checked.ok().lines().filter(told).map(str::to_owned).collect();
    assert!(lines.len() >= 2, "{checked:?}");
    lines
}

#[tokio::test]
async fn a_signal_while_it_starts_ends_it_in_order_and_leaves_the_data_alone() {
    let root = tempfile::tempdir().expect("a directory");
    let images: Vec<String> =
        (0..IMAGES).map(|i| image(&format!("many/repo{}:v{i}", i / 10), json!({})).to_string()).collect();
    let data = root.path().join("data");
    let data = data.to_str().expect("a path in UTF-8");
    run(root.path(), &["import", "--offline", data, "-"], &[], &images.join("\n")).await.ok();
    let before = contents(data).await;
    let mut early = 0;
    for (signal, asks) in [
        (Signal::TERM, 0),
        (Signal::INT, 0),
        (Signal::TERM, 5),
        (Signal::INT, 15),
        (Signal::TERM, 40),
        (Signal::INT, 100),
    ] {
        let said = interrupted(data, signal, asks).await;
        early += usize::from(said.contains("stopped before it was ready"));
        // It can be opened, so that the lock is free.
        assert_eq!(contents(data).await, before, "{signal:?} after {asks}");
    }
    assert!(early > 0, "each was ready before it was told to stop: no test");
    let mut server = Launch::default().start_in(root).await;
    let list = server.admin().get(&format!("{}?limit=1", path("images", ""))).await.expect(200);
    assert_eq!(list["metadata"]["remainingItemCount"], IMAGES - 1);
    server.stop().await;
}
