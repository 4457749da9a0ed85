use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::Settings;
use crate::fixture;

const NEVER: u64 = u64::MAX;

/// A depot that misbehaves: what it does to each request is decided by the number of the request.
struct Server {
    base: String,
    asked: Arc<AtomicUsize>,
    ranges: Arc<Mutex<Vec<u64>>>,
}

/// What the server does with one request.
#[derive(Clone, Copy)]
enum Do {
    /// Answers as asked.
    Serve,
    /// Sends so many bytes of what was asked for, then cuts the connection.
    Cut(usize),
    /// Answers from the start, whatever was asked.
    IgnoreRange,
    /// Sends other bytes of the same length.
    Corrupt,
    /// Sends more than there is.
    Longer,
    /// Answers with an error.
    Error,
    /// Answers that it is elsewhere.
    SendAway,
}

fn serve(blob: Vec<u8>, acts: Vec<Do>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (asked, ranges) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let server = Server { base, asked: asked.clone(), ranges: ranges.clone() };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let at = asked.fetch_add(1, Ordering::SeqCst);
            let act = acts.get(at).copied().unwrap_or(Do::Serve);
            answer(stream.unwrap(), &blob, act, &ranges);
        }
    });
    server
}

fn answer(stream: TcpStream, blob: &[u8], act: Do, ranges: &Mutex<Vec<u64>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut from) = (String::new(), 0_usize);
    while reader.read_line(&mut line).unwrap() > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            from = range.trim_end().trim_end_matches('-').parse().unwrap();
        }
        line.clear();
    }
    ranges.lock().unwrap().push(from as u64);
    let mut stream = stream;
    let (mut body, mut status) = (blob[from..].to_vec(), if from > 0 { "206" } else { "200" });
    let mut send = body.len();
    match act {
        Do::Serve => {}
        Do::Cut(bytes) => send = bytes.min(send),
        Do::IgnoreRange => {
            (body, status) = (blob.to_vec(), "200");
            send = body.len();
        }
        Do::Corrupt => body.iter_mut().for_each(|byte| *byte ^= 1),
        Do::Longer => {
            body.extend_from_slice(b"more");
            send = body.len();
        }
        Do::Error => (body, status, send) = (Vec::new(), "503", 0),
        Do::SendAway => (body, status, send) = (Vec::new(), "302", 0),
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
        body.len(),
        blob.len() - 1,
        blob.len(),
    );
    // A client that has heard enough may be gone already.
    let _sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..send]));
}

fn blob() -> Vec<u8> {
    (0..300_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect()
}

struct Place {
    _dir: tempfile::TempDir,
    layout: Layout,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    Place { layout: Layout::new(dir.path()), _dir: dir }
}

async fn fetch(place: &Place, server: &Server, limit: u64) -> Result<Vec<u8>, FetchError> {
    let depot = HttpDepot::new(place.layout.clone(), &server.base, None);
    let (_keep, never) = crate::cancel::switch();
    let mut file = depot.fetch(&Digest::of(&blob()), limit, &never).await?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

#[tokio::test]
async fn a_transfer_that_is_cut_goes_on_where_it_was() {
    let place = place();
    let server = serve(blob(), vec![Do::Cut(100_000), Do::Cut(50_000), Do::Error]);
    assert_eq!(fetch(&place, &server, NEVER).await.unwrap(), blob());
    assert_eq!(*server.ranges.lock().unwrap(), [0, 100_000, 150_000, 150_000]);
}

#[tokio::test]
async fn what_is_on_disk_is_hashed_again_and_not_fetched_again() {
    let place = place();
    durable::make_dir(&place.layout.spool(), 0o700).unwrap();
    let part = place.layout.part(&Digest::of(&blob()));
    std::fs::write(&part, &blob()[..1000]).unwrap();
    let server = serve(blob(), vec![]);
    assert_eq!(fetch(&place, &server, NEVER).await.unwrap(), blob());
    assert_eq!(fetch(&place, &server, NEVER).await.unwrap(), blob());
    assert_eq!(*server.ranges.lock().unwrap(), [1000], "whole, it is not asked for again");
    // Damage on disk is found, and the blob fetched anew from its start.
    let mut damaged = blob();
    damaged[7] ^= 1;
    std::fs::write(&part, &damaged[..2000]).unwrap();
    assert_eq!(fetch(&place, &server, NEVER).await.unwrap(), blob());
    assert_eq!(*server.ranges.lock().unwrap(), [1000, 2000, 0]);
}

#[tokio::test]
async fn an_answer_from_the_start_replaces_what_is_there() {
    let place = place();
    let server = serve(blob(), vec![Do::Cut(100_000), Do::IgnoreRange]);
    assert_eq!(fetch(&place, &server, NEVER).await.unwrap(), blob());
}

#[tokio::test]
async fn other_bytes_are_given_up_after_three_times() {
    let place = place();
    let server = serve(blob(), vec![Do::Corrupt; 9]);
    let error = fetch(&place, &server, NEVER).await.unwrap_err();
    assert!(matches!(error, FetchError::Mismatch(_)), "{error:?}");
    assert_eq!(server.asked.load(Ordering::SeqCst), 3);
    assert!(!place.layout.part(&Digest::of(&blob())).exists(), "nothing is left");
}

#[tokio::test]
async fn more_bytes_than_the_blob_has_are_refused_at_once() {
    let place = place();
    let server = serve(blob(), vec![Do::Longer]);
    let size = u64::try_from(blob().len()).unwrap();
    let error = fetch(&place, &server, size).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { limit_bytes, .. } if limit_bytes == size));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn cancelled_work_ends_while_it_waits_for_the_depot() {
    let place = place();
    let server = serve(blob(), vec![Do::Error; 1000]);
    let depot = HttpDepot::new(place.layout.clone(), &server.base, None);
    let (canceller, cancel) = crate::cancel::switch();
    let digest = Digest::of(&blob());
    let work = depot.fetch(&digest, NEVER, &cancel);
    let stop = async {
        while server.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        canceller.cancel();
    };
    let both = async { tokio::join!(work, stop) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(matches!(ended, Err(FetchError::Cancelled)), "{ended:?}");
}

#[tokio::test]
async fn a_rate_limit_holds() {
    let place = place();
    let server = serve(blob(), vec![]);
    let bandwidth_bytes_per_sec = Some(600_000);
    let settings = Settings { bandwidth_bytes_per_sec, ..fixture::settings() };
    let settings = Some(Live::fixed(settings));
    let depot = HttpDepot::new(place.layout.clone(), &server.base, settings);
    let (_keep, never) = crate::cancel::switch();
    let began = Instant::now();
    depot.fetch(&Digest::of(&blob()), NEVER, &never).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
}

#[test]
fn only_plain_http_addresses_are_read() {
    assert_eq!(authority("http://10.0.0.1:7480").unwrap(), "10.0.0.1:7480");
    assert_eq!(authority("http://depot/").unwrap(), "depot:80");
    for bad in ["https://x:1", "x:1", "http://", "http://user@x:1", "http://x:1/path"] {
        assert!(matches!(authority(bad), Err(FetchError::Address(_))), "{bad}");
    }
}

#[tokio::test]
async fn a_depot_that_brings_nothing_is_named_after_a_few_tries_and_what_came_is_kept() {
    let place = place();
    let mut acts = vec![Do::Cut(100_000)];
    acts.extend([Do::Error; 4]);
    let server = serve(blob(), acts);
    let error = fetch(&place, &server, NEVER).await.unwrap_err();
    assert!(matches!(error, FetchError::Status { status, .. } if status == 503), "{error:?}");
    assert_eq!(fetch(&place, &server, NEVER).await.unwrap(), blob());
    assert_eq!(server.ranges.lock().unwrap().last(), Some(&100_000));
}

/// A port that is shut, and a gateway that sends everybody to its log-in.
#[tokio::test]
async fn what_stands_in_the_way_is_named_in_the_system_s_own_words() {
    let place = place();
    let shut = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (asked, ranges) = (Arc::default(), Arc::default());
    let shut = Server { base: format!("http://{shut}"), asked, ranges };
    let error = fetch(&place, &shut, NEVER).await.unwrap_err();
    assert!(groundswell_common::chain(&error).contains("Connection refused"), "{error:?}");
    let gateway = serve(blob(), vec![Do::SendAway; 4]);
    let error = fetch(&place, &gateway, NEVER).await.unwrap_err();
    assert!(
        error.to_string().contains("the depot answered 302 Found; is a proxy in the way?"),
        "{error}"
    );
}
