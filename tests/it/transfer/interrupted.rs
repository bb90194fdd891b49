//! An import that is interrupted, and goes on.

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

/// Says that the first phase is over: from there on something is written, and more is to come.
const BEGUN: &str = "1 organizations";

/// An organization, and images after it.
fn input(count: usize) -> String {
    lines(&[object("Organization", "many", json!({ "name": "many" }))]) + &many(count)
}

/// Begins an import, and interrupts it when it has begun to write.
async fn interrupted(words: &[&str]) -> Ran {
    let mut child = command(words).spawn().expect("the program starts");
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).expect("it runs");
    let mut said = BufReader::new(child.stderr.take().expect("it was piped")).lines();
    let mut err = String::new();
    while let Some(line) = within("a line", said.next_line()).await.expect("text") {
        err.push_str(&line);
        err.push('\n');
        if line.starts_with(BEGUN) {
            kill_process(pid, Signal::INT).expect("it runs");
        }
    }
    let ran = wait(child).await;
    Ran { err, ..ran }
}

/// The numbers in what an import printed: created, were there, failed.
fn counts(ran: &Ran) -> [usize; 3] {
    let text = ran.text();
    let mut numbers = text.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
    std::array::from_fn(|_| numbers.next().unwrap_or_else(|| panic!("{text}{}", ran.err)))
}

/// Interrupts an import, and gives the same command again until it has nothing to do.
async fn goes_on(words: &[&str], count: usize) {
    let first = interrupted(words).await;
    assert_eq!(first.code, Some(130), "{}{}", first.text(), first.err);
    assert!(first.err.contains("interrupted; the same command goes on where it was"), "{}", first.err);
    let [made, there, failed] = counts(&first);
    assert!((1..=count).contains(&made) && (there, failed) == (0, 0), "{}", first.text());
    let second = run(words).await.ok();
    assert_eq!(counts(&second), [count + 1 - made, made, 0], "{}", second.text());
    assert_eq!(counts(&run(words).await.ok()), [0, count + 1, 0]);
}

#[tokio::test]
async fn an_import_to_a_server_that_is_interrupted_goes_on_with_the_same_command() {
    const COUNT: usize = 400;
    let server = Server::start().await;
    let dir = TempDir::new().expect("a directory");
    let (file, config) = (write(&dir, "many.jsonl", input(COUNT)), kubeconfig(&server));
    goes_on(&["import", "--kubeconfig", &config, "--parallel", "2", &file], COUNT).await;
    let list = server.admin().get(&format!("{}?limit=1", path("images", ""))).await.ok();
    assert_eq!(list["metadata"]["remainingItemCount"], COUNT - 1);
}

#[tokio::test]
async fn an_import_into_a_directory_that_is_interrupted_goes_on_with_the_same_command() {
    const COUNT: usize = 2000;
    let root = TempDir::new().expect("a directory");
    let (file, data) = (write(&root, "many.jsonl", input(COUNT)), text(&root.path().join("data")));
    goes_on(&["import", "--offline", &data, "--parallel", "2", &file], COUNT).await;
    let checked = run(&["check", &data]).await.ok();
    assert!(checked.text().contains("2000 images"), "{}", checked.text());
    assert!(
        !Path::new(&data)
            .read_dir()
            .expect("a directory")
            .any(|entry| { entry.expect("an entry").file_name().to_string_lossy().contains("import") })
    );
}
