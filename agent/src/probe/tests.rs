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
    Probe::Http { url: format!("http://{address}/healthz?x=1"), timeout_secs: 1 }
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
