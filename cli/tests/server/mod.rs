//! A scripted coordinator: real TLS with client certificates, answers by route, requests kept for the test.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use groundswell_common::api::Profile;
use groundswell_net::tls::{ClientAuth, ServerConfig, server_config};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, SanType,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a request asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `METHOD /path`.
    pub(crate) route: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

type Script = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

/// A scripted coordinator and the profile of its operator.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts one; `script` answers each request with a status and a body.
    pub(crate) fn start(script: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (config, mut profile) = identities();
        let (ready, port) = mpsc::channel();
        let (script, kept): (Arc<Script>, _) = (Arc::new(script), asked.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(config, script, kept, ready));
        });
        profile.api = format!("127.0.0.1:{}", port.recv().unwrap());
        std::fs::write(dir.path().join("profile"), serde_json::to_string(&profile).unwrap())
            .unwrap();
        Self { dir, asked }
    }

    /// A folder for the test's files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The operator's profile.
    pub(crate) fn profile(&self) -> PathBuf {
        self.dir.path().join("profile")
    }

    /// Runs `swell` with the profile, and without a terminal.
    pub(crate) fn swell(&self, args: &[&str]) -> Output {
        swell(&[&["--profile", self.profile().to_str().unwrap()], args].concat())
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The routes of every request so far.
    pub(crate) fn routes(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.route).collect()
    }
}

/// Runs `swell` without a terminal and without anybody's profile.
pub(crate) fn swell(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swell"));
    command.env_remove("GROUNDSWELL_PROFILE").env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    command.args(args).stdin(Stdio::null()).output().unwrap()
}

async fn serve(
    config: Arc<ServerConfig>,
    script: Arc<Script>,
    kept: Arc<Mutex<Vec<Asked>>>,
    ready: mpsc::Sender<u16>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    ready.send(listener.local_addr().unwrap().port()).unwrap();
    let acceptor = TlsAcceptor::from(config);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, script, kept) = (acceptor.clone(), script.clone(), kept.clone());
        tokio::spawn(async move {
            // A client that hangs up early is the test's own doing.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (script, kept) = (script.clone(), kept.clone());
                async move {
                    let route = format!("{} {}", request.method(), request.uri());
                    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                    let asked = Asked { route, body };
                    kept.lock().unwrap().push(asked.clone());
                    let (status, text) = script(&asked);
                    let response = Response::builder().status(status);
                    Ok::<_, Infallible>(response.body(Full::new(Bytes::from(text))).unwrap())
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn identities() -> (Arc<ServerConfig>, Profile) {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&pair).unwrap();
    let issuer = Issuer::new(params, pair);
    let leaf = |name: SanType, usage: ExtendedKeyUsagePurpose| {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        (params.signed_by(&pair, &issuer).unwrap().pem(), pair.serialize_pem())
    };
    let address = SanType::IpAddress("127.0.0.1".parse().unwrap());
    let server = leaf(address, ExtendedKeyUsagePurpose::ServerAuth);
    let name = SanType::URI("groundswell://demo/operator/ann".try_into().unwrap());
    let operator = leaf(name, ExtendedKeyUsagePurpose::ClientAuth);
    let authorities = [authority.der().to_vec()];
    let config = server_config(&authorities, &server.0, &server.1, ClientAuth::Required).unwrap();
    let profile = Profile {
        api: String::new(),
        blobs: None,
        ca_pem: authority.pem(),
        name: "ann".parse().unwrap(),
        certificate_pem: operator.0,
        key_pem: operator.1,
    };
    (config, profile)
}
