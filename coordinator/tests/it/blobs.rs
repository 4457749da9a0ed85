//! Uploads over the API and downloads from the blob listener.

use groundswell_common::Digest;
use groundswell_coordinator::init::Layout;
use groundswell_net::connect;
use hyper::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bed::{PATIENCE, Served, files, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_stay_only_whole_and_right() {
    let served = Served::start().await;
    let admin = served.admin_tls();
    let depot = Layout::new(&served.state()).depot();
    let before = files(&depot);
    let (bytes, other) = (b"0123456789".to_vec(), Digest::of(b"other"));
    let path = |digest: &Digest| format!("/v1/blobs/{digest}");
    let upload = async |digest: &Digest, bytes: &[u8]| {
        let path = path(digest);
        served.ask(&admin, (&Method::PUT, path.as_str()), bytes.to_vec()).await.unwrap()
    };
    let answer = upload(&other, &bytes).await;
    let want = (StatusCode::UNPROCESSABLE_ENTITY, "wrong_digest");
    assert_eq!((answer.status, answer.code().as_str()), want);
    let answer = served.ask(&admin, (&Method::PUT, "/v1/blobs/12"), bytes.clone()).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid"));
    assert_eq!(files(&depot), before, "nothing is left of a refused upload");

    let digest = Digest::of(&bytes);
    let stat = async || served.ask(&admin, (&Method::HEAD, path(&digest).as_str()), vec![]).await;
    assert_eq!(stat().await.unwrap().status, StatusCode::NOT_FOUND);
    assert_eq!(upload(&digest, &bytes).await.status, StatusCode::CREATED);
    assert_eq!(upload(&digest, &bytes).await.status, StatusCode::OK, "kept before");
    let answer = stat().await.unwrap();
    assert_eq!((answer.status, answer.header("x-blob-bytes")), (StatusCode::OK, "10"));
    assert_eq!(files(&depot).len(), before.len() + 1);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_upload_and_one_without_a_length_leave_nothing() {
    let served = Served::start().await;
    let depot = Layout::new(&served.state()).depot();
    let before = files(&depot);
    let digest = Digest::of(b"whole");
    let head = format!("PUT /v1/blobs/{digest} HTTP/1.1\r\nhost: x\r\n");
    let mut stream = connect(&served.at.api, served.admin_tls(), PATIENCE).await.unwrap();
    stream.write_all(format!("{head}content-length: 5\r\n\r\nwho").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    until("a part of the upload", || files(&depot).len() > before.len()).await;
    drop(stream);
    until("the part is removed", || files(&depot) == before).await;

    let mut stream = connect(&served.at.api, served.admin_tls(), PATIENCE).await.unwrap();
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
    stream.write_all(format!("{head}{chunked}").as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 400");
    assert_eq!(files(&depot), before);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_are_served_whole_in_ranges_and_for_caches() {
    let served = Served::start().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let digest = Digest::of(&bytes);
    let upload = format!("/v1/blobs/{digest}");
    let admin = served.admin_tls();
    let put = served.ask(&admin, (&Method::PUT, upload.as_str()), bytes.clone()).await;
    assert_eq!(put.unwrap().status, StatusCode::CREATED);
    let path = format!("/blobs/sha256/{digest}");

    let whole = served.blob(&Method::GET, &path, None).await;
    assert_eq!((whole.status, whole.body.as_ref()), (StatusCode::OK, bytes.as_slice()));
    let head = served.blob(&Method::HEAD, &path, None).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    let part = served.blob(&Method::GET, &path, Some("bytes=99990-")).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        (part.body.as_ref(), part.header("content-range")),
        (&bytes[99_990..], "bytes 99990-99999/100000")
    );
    let middle = served.blob(&Method::GET, &path, Some("bytes=5-6")).await;
    assert_eq!((middle.status, middle.body.as_ref()), (StatusCode::PARTIAL_CONTENT, &bytes[5..7]));
    for answer in [&whole, &head, &part, &middle] {
        let caches = "public, max-age=31536000, immutable";
        assert_eq!(answer.header("cache-control"), caches);
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
        assert_eq!(answer.header("content-type"), "application/octet-stream");
    }
    assert_eq!(head.header("content-length"), "100000");
    let behind = served.blob(&Method::GET, &path, Some("bytes=100000-")).await;
    assert_eq!(behind.status, StatusCode::RANGE_NOT_SATISFIABLE);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_blob_is_refused_and_never_cached() {
    let served = Served::start().await;
    let missing = format!("/blobs/sha256/{}", Digest::of(b"missing"));
    let escape = "/blobs/sha256/..%2f..%2f..%2fkeys%2fca.pem";
    let put = (&Method::PUT, missing.as_str(), StatusCode::METHOD_NOT_ALLOWED);
    for (method, path, want) in [
        (&Method::GET, missing.as_str(), StatusCode::NOT_FOUND),
        (&Method::HEAD, missing.as_str(), StatusCode::NOT_FOUND),
        (&Method::GET, "/blobs/sha256/12", StatusCode::BAD_REQUEST),
        (&Method::GET, escape, StatusCode::BAD_REQUEST),
        (&Method::GET, "/blobs/sha256/", StatusCode::NOT_FOUND),
        (&Method::GET, "/v1/status", StatusCode::NOT_FOUND),
        put,
    ] {
        let answer = served.blob(method, path, None).await;
        assert_eq!(answer.status, want, "{method} {path}");
        assert_eq!(answer.header("cache-control"), "", "{method} {path}");
    }
    served.stop().await;
}
