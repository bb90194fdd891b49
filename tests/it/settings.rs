//! Settings of `serve` from flags, variables and a file, as the process takes them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// `imagehub serve` with these variables and words, in `folder`; it has to end by itself.
fn serve(folder: &Path, variables: &[(&str, &str)], words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imagehub"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("IMAGEHUB_")) {
        command.env_remove(name);
    }
    command.arg("serve").args(words).envs(variables.iter().copied()).current_dir(folder);
    command.output().expect("the program can be started")
}

#[test]
fn a_flag_comes_before_its_variable_and_that_before_the_file() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    // All three are taken already: what it complains of is what it has chosen.
    let taken: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let at: Vec<String> = taken.iter().map(|l| l.local_addr().expect("it is bound").to_string()).collect();
    let text = format!("http-listen = \"127.0.0.1:0\"\nkube-listen = \"{}\"\n", at[0]);
    std::fs::write(folder.path().join("settings.toml"), text).expect("the file can be written");

    let refused = |variables: &[(&str, &str)], words: &[&str], chosen: &str| {
        let output = serve(folder.path(), variables, words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("can't listen on {chosen}")), "{chosen}: {said}");
    };
    let file = ("IMAGEHUB_CONFIG", "settings.toml");
    let variable = ("IMAGEHUB_KUBE_LISTEN", at[1].as_str());
    refused(&[], &["--config", "settings.toml"], &at[0]);
    refused(&[file], &[], &at[0]);
    refused(&[file, variable], &[], &at[1]);
    refused(&[file, variable], &["--kube-listen", &at[2]], &at[2]);
}

#[test]
fn a_file_with_mistakes_is_refused_as_a_wrong_command_line_is() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(folder.path().join("s.toml"), "kube_listen = 1\nlog = 3\n").expect("the file can be written");
    let output = serve(folder.path(), &[], &["--config=s.toml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "error: s.toml:1:1: there is no setting \"kube_listen\": did you mean kube-listen?");
    assert!(lines[1].starts_with("s.toml:2:7: log: want a string"), "{said}");
    assert!(said.ends_with('\n') && lines.len() == 2, "{said:?}");
    assert!(!folder.path().join("imagehub-data").exists(), "nothing was begun");

    let absent = serve(folder.path(), &[("IMAGEHUB_CONFIG", "absent.toml")], &[]);
    let said = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert_eq!((absent.status.code(), said.contains("absent.toml: No such file")), (Some(2), true), "{said}");
}

#[test]
fn an_issuer_that_cant_be_right_is_refused_with_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    write("ca.pem", "no certificate\n");
    write("half.toml", "oidc-issuer-url = \"https://issuer.example\"\n");
    write("tls.toml", "storage = \"kubernetes\"\ntls-cert-file = \"tls.crt\"\n");
    let https = "--oidc-issuer-url=https://issuer.example";
    let audience = "--oidc-audience=imagehub";
    for (words, why) in [
        (&[https][..], "imagehub: --oidc-issuer-url says nothing without --oidc-audience"),
        (&[audience], "imagehub: --oidc-audience says nothing without --oidc-issuer-url"),
        (&[https, "--oidc-audience="], "imagehub: --oidc-issuer-url says nothing without --oidc-audience"),
        (&["--config=half.toml"], "imagehub: --oidc-issuer-url says nothing without --oidc-audience"),
        (&["--config=tls.toml"], "imagehub: --tls-cert-file says nothing without --tls-private-key-file"),
        (
            &[audience, "--oidc-issuer-url=http://issuer.example"],
            "imagehub: --oidc-issuer-url \"http://issuer.example\": it is not https: want an https URL without a query, as in \
             https://issuer.example",
        ),
        (&[audience, "--oidc-issuer-url=issuer.example"], "it is not https: want an https URL without a query"),
        (
            &[https, audience, "--oidc-ca-file=ca.pem"],
            "imagehub: --oidc-ca-file ca.pem: there is no certificate in it: want PEM",
        ),
        (&[https, audience, "--oidc-ca-file=none.pem"], "imagehub: --oidc-ca-file none.pem: No such file or directory"),
        (
            &[https, audience, "--oidc-prefix=system:"],
            "imagehub: --oidc-prefix \"system:\": what begins with \"system:\"",
        ),
    ] {
        let output = serve(folder.path(), &[], words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
        assert!(!folder.path().join("imagehub-data").exists(), "{words:?}: nothing was begun");
    }
}
