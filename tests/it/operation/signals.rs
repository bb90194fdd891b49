//! How a server stops, and what it does when nobody reads what it says.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::everything;
use crate::harness::{Client, Connection, Launch, Server, image, path, within};

/// A server with so much in it that a list doesn't fit into what the system keeps for a connection.
async fn large() -> Server {
    let server = Server::start().await;
    let docs = "text ".repeat(60_000);
    for tag in 0..40 {
        let image = image(&format!("large/text:v{tag}"), json!({ "docs": docs }));
        server.admin().post(&path("images", ""), &image).await.expect(201);
    }
    server
}

/// A list that has begun to be answered, and of which nobody reads more for now.
async fn begun_list(client: &Client) -> Box<dyn Connection> {
    let mut connection = client.raw().await.expect("a connection");
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path("images", ""));
    connection.write_all(request.as_bytes()).await.expect("it is sent");
    connection.flush().await.expect("it is sent");
    let mut first = [0; 12];
    within("the beginning of a list", connection.read_exact(&mut first)).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    connection
}

#[tokio::test]
async fn sigterm_and_sigint_end_watches_and_finish_what_is_under_way() {
    let mut server = large().await;
    for signal in ["TERM", "INT"] {
        let admin = server.admin();
        let mut watches = Vec::new();
        for _ in 0..20 {
            let mut watch = admin.watch(&format!("{}?resourceVersion=0", path("organizations", ""))).await;
            watch.expect("ADDED", "large").await;
            watches.push(watch);
        }
        let mut list = begun_list(&admin).await;
        let idle = admin.raw().await.expect("a connection");
        server.signal(signal).await;
        for mut watch in watches {
            let end = within("the end of a watch", watch.try_next()).await;
            assert!(matches!(end, Ok(None)), "a watch ends in order: {end:?}");
        }
        let mut rest = Vec::new();
        within("the rest of the list", list.read_to_end(&mut rest)).await.expect("the whole list");
        let text = String::from_utf8(rest).expect("text");
        assert!(text.trim_end().ends_with("]}\r\n0") && text.contains("large.text.v39"), "the list was cut off");
        let status = server.ended().await;
        assert_eq!(status.code(), Some(0), "after SIG{signal}: {status}");
        drop(idle);
        server.start_again().await;
    }
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("did not finish"), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = large().await;
    let list = begun_list(&server.admin()).await;
    let mut watch = server.admin().watch(&path("datapacks", "")).await;
    server.signal("TERM").await;
    // It is stopping; the list is not finished.
    let end = within("the end of a watch", watch.try_next()).await;
    assert!(matches!(end, Ok(None)), "{end:?}");
    server.signal("INT").await;
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(server.log().contains("told to stop again"), "{}", server.log());
    drop(list);
    server.start_again().await;
    assert_eq!(everything(&server).await[0].as_array().map(Vec::len), Some(40));
}

#[tokio::test]
async fn a_server_whose_output_nobody_reads_goes_on() {
    let mut server = Launch::default().unread().argument("--log").argument("trace").start().await;
    server.admin().post(&path("images", ""), &image("acme/anvil:v1", json!({}))).await.expect(201);
    server.anonymous().get(&path("images", "acme.anvil.v1")).await.expect(200);
    everything(&server).await;
    server.stop().await;
}
