//! What the tests stand on: state directories, a served coordinator, requests over TCP and TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use groundswell_common::Timestamp;
use groundswell_common::api::Profile;
use groundswell_common::trust::SecretKey;
use groundswell_coordinator::app::{Listening, serve};
use groundswell_coordinator::config::Settings;
use groundswell_coordinator::init::{InitRequest, init};
use groundswell_net::tls::ClientConfig;
use groundswell_net::{Notify, connect, tls};
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_TYPE, HOST, RANGE};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// Bound of everything that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// A new fleet on free ports of the loopback.
pub(crate) fn fleet() -> (TempDir, Settings) {
    let place = tempfile::tempdir().unwrap();
    let free = || Some("127.0.0.1:0".to_owned());
    let request = InitRequest {
        state: place.path().join("state"),
        fleet: "main".parse().unwrap(),
        hosts: vec!["127.0.0.1".to_owned()],
        agents: free(),
        api: free(),
        blobs: free(),
        admin: "ada".parse().unwrap(),
    };
    let settings = init(&request, now()).unwrap();
    (place, settings)
}

/// A coordinator that serves.
pub(crate) struct Served {
    pub(crate) place: TempDir,
    pub(crate) at: Listening,
    pub(crate) admin: Profile,
    pub(crate) settings: Settings,
    stop: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::on(fleet()).await
    }

    /// A coordinator that serves a state that is there.
    pub(crate) async fn on((place, settings): (TempDir, Settings)) -> Self {
        let state = place.path().join("state");
        let (stop, stopped) = watch::channel(false);
        let (tell, ready) = oneshot::channel();
        let (its_state, its_settings) = (state.clone(), settings.clone());
        let task = tokio::spawn(async move {
            let notify = Notify::new(None, None);
            let announce = |at: &Listening| tell.send(at.clone()).unwrap();
            serve((&its_state, &its_settings), &notify, stopped, announce).await
        });
        let at = tokio::time::timeout(PATIENCE, ready).await.unwrap().unwrap();
        let profile = std::fs::read(state.join("admin.profile")).unwrap();
        let admin = serde_json::from_slice(&profile).unwrap();
        Self { place, at, admin, settings, stop, task }
    }

    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.place.path().join("state")
    }

    /// A client's TLS with this identity, trusting the fleet's authority.
    pub(crate) fn tls(&self, identity: Option<(&str, &str)>) -> Arc<ClientConfig> {
        client_tls(&self.admin.ca_pem, identity)
    }

    pub(crate) fn admin_tls(&self) -> Arc<ClientConfig> {
        self.tls(Some((&self.admin.certificate_pem, &self.admin.key_pem)))
    }

    pub(crate) async fn ask(
        &self,
        tls: &Arc<ClientConfig>,
        (method, path): (&Method, &str),
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let connected = connect(&self.at.api, Arc::clone(tls), PATIENCE).await;
        let stream = connected.map_err(|error| error.to_string())?;
        exchange(stream, request(method, path, None, body)).await
    }

    /// Asks and reads the JSON of a good answer.
    pub(crate) async fn json(
        &self,
        tls: &Arc<ClientConfig>,
        (method, path): (&Method, &str),
        body: serde_json::Value,
    ) -> serde_json::Value {
        let body = serde_json::to_vec(&body).unwrap();
        let answer = self.ask(tls, (method, path), body).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn blob(&self, method: &Method, path: &str, range: Option<&str>) -> Answer {
        let stream = TcpStream::connect(&self.at.blobs).await.unwrap();
        exchange(stream, request(method, path, range, Vec::new())).await.unwrap()
    }

    /// Stops it as a signal does.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

pub(crate) fn client_tls(ca_pem: &str, identity: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let authorities: Vec<Vec<u8>> =
        tls::chain(ca_pem).unwrap().iter().map(|der| der.to_vec()).collect();
    tls::client_config(&authorities, identity).unwrap()
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The stable code of an error answer.
    pub(crate) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["error"]["code"].as_str().unwrap().to_owned()
    }
}

fn request(
    method: &Method,
    path: &str,
    range: Option<&str>,
    body: Vec<u8>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "coordinator");
    if let Some(range) = range {
        request = request.header(RANGE, range);
    }
    request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body))).unwrap()
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let work = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let running = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        running.abort();
        Ok::<_, hyper::Error>(Answer { status: head.status, headers: head.headers, body })
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap().map_err(|error| error.to_string())
}

/// All files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Waits until `holds`, with a bound.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
