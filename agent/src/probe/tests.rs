use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

fn spec(tree: &std::path::Path) -> RunSpec {
    RunSpec {
        service: "shop".parse().unwrap(),
        version: "1.0".parse().unwrap(),
        units: Vec::new(),
        command: Vec::new(),
        tree: tree.to_owned(),
    }
}

async fn once(probe: Probe) -> Result<(), ProbeError> {
    let dir = tempfile::tempdir().unwrap();
    RealProbes.once(&probe, &spec(dir.path())).await
}

/// Answers one connection with these bytes, or keeps it silent.
fn server(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).unwrap();
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
            // Silent until the client has gone.
            None => while count > 0 && stream.read(&mut buffer).is_ok_and(|count| count > 0) {},
        }
    });
    address
}

fn http(address: &str) -> Probe {
    let url = format!("http://{address}/healthz?x=1");
    Probe::Http { url, timeout_secs: 1, status: 0, ca: String::new() }
}

fn exec(argv: &[&str]) -> Probe {
    Probe::Exec { argv: argv.iter().map(|arg| (*arg).to_owned()).collect(), timeout_secs: 1 }
}

#[tokio::test]
async fn http_passes_on_success_only() {
    let ok = server(Some("HTTP/1.1 204 No Content\r\n\r\n"));
    once(http(&ok)).await.unwrap();
    let bad = server(Some("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"));
    let error = once(http(&bad)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Status { status: 503, .. }), "{error:?}");
    let moved = server(Some("HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n"));
    let error = once(http(&moved)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Status { status: 301, .. }), "{error:?}");
    let broken = server(Some("hello"));
    let error = once(http(&broken)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Http { .. }), "{error:?}");
    let silent = server(None);
    let error = once(http(&silent)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Late { secs: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn http_passes_on_exactly_the_status_that_is_wanted() {
    let wants = |address: &str| {
        let (url, ca) = (format!("http://{address}/"), String::new());
        Probe::Http { url, timeout_secs: 1, status: 401, ca }
    };
    let closed = server(Some("HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n"));
    once(wants(&closed)).await.unwrap();
    let open = server(Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let error = once(wants(&open)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Status { status: 200, .. }), "{error:?}");
}

/// An authority, and what it gives to servers.
struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Self { issuer: rcgen::CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// A TLS server for `name` that answers one request with `answer`, or keeps it waiting for ever.
    fn server(&self, name: &str, until_year: i32, answer: Option<&'static str>) -> u16 {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let clients = [self.issuer.der().to_vec()];
        let tls = groundswell_net::tls::server_config(
            &clients,
            &certificate.pem(),
            &key.serialize_pem(),
            groundswell_net::tls::ClientAuth::Optional,
        );
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate goes away in the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                if let Some(answer) = answer {
                    drop(stream.write_all(answer.as_bytes()).await);
                    return;
                }
            }
        });
        port
    }
}

#[tokio::test]
async fn https_passes_with_a_certificate_of_the_authority_that_is_named_and_no_other() {
    let (ours, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), ours.issuer.pem()).unwrap();
    std::fs::write(dir.path().join("none.pem"), "no certificate").unwrap();
    let spec = spec(dir.path());
    let probe = async |port: u16, ca: &str, status: u16| {
        let (url, ca) = (format!("https://127.0.0.1:{port}/healthz"), ca.to_owned());
        let probe = Probe::Http { url, timeout_secs: 1, status, ca };
        match RealProbes.once(&probe, &spec).await {
            Ok(()) => "passed".to_owned(),
            Err(error) => groundswell_common::chain(&error),
        }
    };
    let ok = Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let bad = Some("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let here = "127.0.0.1";
    let absolute = dir.path().join("ca.pem").to_str().unwrap().to_owned();
    for (name, port, ca, status, want) in [
        ("right", ours.server(here, 2999, ok), "ca.pem", 0, "passed"),
        ("right, of the host", ours.server(here, 2999, ok), &absolute, 0, "passed"),
        ("right, busy as wanted", ours.server(here, 2999, bad), "ca.pem", 503, "passed"),
        ("wrong authority", other.server(here, 2999, ok), "ca.pem", 0, "invalid peer certificate"),
        ("expired", ours.server(here, 2001, ok), "ca.pem", 0, "certificate expired"),
        ("another name", ours.server("shop.example", 2999, ok), "ca.pem", 0, "not valid for"),
        ("wrong status", ours.server(here, 2999, bad), "ca.pem", 0, "status 503"),
        ("silent", ours.server(here, 2999, None), "ca.pem", 0, "no answer within 1 s"),
        ("no such file", ours.server(here, 2999, ok), "gone.pem", 0, "gone.pem"),
        ("no certificate", ours.server(here, 2999, ok), "none.pem", 0, "holds none"),
    ] {
        let said = probe(port, ca, status).await;
        assert!(said.contains(want), "{name}: {said}");
    }
    let plain = server(Some("hello"));
    let said = probe(plain.rsplit_once(':').unwrap().1.parse().unwrap(), "ca.pem", 0).await;
    assert!(said.contains("speaks no TLS"), "{said}");
}

#[tokio::test]
async fn tcp_passes_when_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    once(Probe::Tcp { address: address.clone(), timeout_secs: 1 }).await.unwrap();
    drop(listener);
    let error = once(Probe::Tcp { address, timeout_secs: 1 }).await.unwrap_err();
    assert!(matches!(error, ProbeError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn exec_passes_on_exit_0_and_reports_the_end_of_the_output() {
    once(exec(&["sh", "-c", "test \"$GROUNDSWELL_SERVICE\" = shop"])).await.unwrap();
    let error = once(exec(&["sh", "-c", "echo out; echo err >&2; exit 4"])).await.unwrap_err();
    let ProbeError::Exit { how, output, .. } = &error else { panic!("{error:?}") };
    assert_eq!((how.as_str(), output.as_str()), ("exit status: 4", "out\nerr"));
    let error = once(exec(&["./none"])).await.unwrap_err();
    assert!(matches!(error, ProbeError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn exec_is_killed_with_its_children_at_the_time_out() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sleep 600 & echo $! > child; sleep 600";
    let error = RealProbes.once(&exec(&["sh", "-c", script]), &spec(dir.path())).await.unwrap_err();
    assert!(matches!(error, ProbeError::Late { secs: 1, .. }), "{error:?}");
    let child: i32 =
        std::fs::read_to_string(dir.path().join("child")).unwrap().trim().parse().unwrap();
    let gone = async {
        while std::fs::read_to_string(format!("/proc/{child}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("the child is killed, too");
}

#[tokio::test]
async fn a_file_passes_while_it_is_there_and_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alive");
    let look = |path: &std::path::Path, max_age_secs| {
        let path = path.to_str().unwrap().to_owned();
        once(Probe::File { path, max_age_secs })
    };
    assert!(matches!(look(&path, 0).await, Err(ProbeError::Io { .. })), "not there yet");
    std::fs::write(&path, "").unwrap();
    look(&path, 60).await.unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(100);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(long_ago).unwrap();
    look(&path, 0).await.unwrap();
    let old = look(&path, 60).await.unwrap_err();
    assert!(matches!(old, ProbeError::Old { age: 100.., max_age_secs: 60, .. }), "{old}");
    assert!(matches!(look(dir.path(), 0).await, Err(ProbeError::NoFile(_))), "a directory");
}
