//! The program itself against a coordinator of this test's own: enrolment, the first session, status,
//! exit codes, an orderly end.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use groundswell_common::api::{EnrollAnswer, EnrollRequest};
use groundswell_common::report::Report;
use groundswell_common::token::Token;
use groundswell_common::trust::{Envelope, PublicKey, RawRoot, Role, RoleEntry, Root, SecretKey};
use groundswell_common::wire::{Backoff, ToAgent, ToCoordinator, Welcome};
use groundswell_common::{Digest, HostId};
use groundswell_net::tls::{ClientAuth, ServerConfig, server_config};
use groundswell_net::{Framed, Peer, PeerRole};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

const SOON: Duration = Duration::from_secs(30);

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_pem(&key(seed).to_pem().unwrap()).unwrap()
}

/// A coordinator: authority, root, and the three listeners.
struct Coordinator {
    issuer: Issuer<'static, KeyPair>,
    authority: Vec<u8>,
    root: Envelope,
    api: TcpListener,
    agents: TcpListener,
    blobs: TcpListener,
}

/// Base64, as an envelope's payload is written.
fn base64(bytes: &[u8]) -> String {
    let json = Envelope::new::<Root>(bytes.to_vec()).to_json();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    json["payload"].as_str().unwrap().to_owned()
}

/// A key that somebody else holds.
struct Subject([u8; 32]);

impl rcgen::PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

impl Coordinator {
    async fn start() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&pair(9)).unwrap().der().to_vec();
        let issuer = Issuer::new(params, pair(9));
        let role = |role| RoleEntry {
            role,
            service: None,
            environment: None,
            threshold: 1,
            keys: vec![key(1).public()],
        };
        let raw = RawRoot {
            version: 1,
            fleet: "demo".parse().unwrap(),
            expires: 4_000_000_000,
            tls_ca: vec![base64(&authority)],
            roles: vec![role(Role::Root), role(Role::Release), role(Role::Director)],
            units: Vec::new(),
            revoked_hosts: Vec::new(),
        };
        let root = Envelope::new::<Root>(serde_json::to_vec(&raw).unwrap()).signed_by(&key(1));
        let listen = || TcpListener::bind("127.0.0.1:0");
        let (api, agents) = (listen().await.unwrap(), listen().await.unwrap());
        let blobs = listen().await.unwrap();
        Self { issuer, authority, root, api, agents, blobs }
    }

    fn server(&self, clients: ClientAuth) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pem = params.signed_by(&pair(8), &self.issuer).unwrap().pem();
        let own = key(8).to_pem().unwrap();
        server_config(std::slice::from_ref(&self.authority), &pem, &own, clients).unwrap()
    }

    fn address(listener: &TcpListener) -> String {
        listener.local_addr().unwrap().to_string()
    }

    fn token(&self) -> Token {
        Token {
            api: Self::address(&self.api),
            blobs: format!("http://{}", Self::address(&self.blobs)),
            root_blob: Digest::of(&self.root.to_json()),
            root: self.root.digest(),
            secret: "00112233445566778899aabbccddeeff".to_owned(),
            expires: 4_000_000_000,
        }
    }

    /// What an agent's certificate for `public` is; rcgen signs for a key that it does not hold.
    fn certificate(&self, public: &PublicKey) -> String {
        let id = HostId::of_key(public.as_bytes());
        let uri = Peer::uri(&"demo".parse().unwrap(), &PeerRole::Agent(id));
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&Subject(*public.as_bytes()), &self.issuer).unwrap().pem()
    }

    /// Answers one request for the root, then one enrolment.
    async fn enrol_one(&self) -> EnrollRequest {
        let (mut stream, _) = self.blobs.accept().await.unwrap();
        let (head, _) = request(&mut stream).await;
        let want = format!("GET /blobs/sha256/{} ", Digest::of(&self.root.to_json()));
        assert!(head.starts_with(&want), "{head}");
        respond(&mut stream, &self.root.to_json()).await;
        let (stream, _) = self.api.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(self.server(ClientAuth::Optional));
        let mut stream = acceptor.accept(stream).await.unwrap();
        let (head, body) = request(&mut stream).await;
        assert!(head.starts_with("POST /v1/enroll "), "{head}");
        let asked: EnrollRequest = serde_json::from_slice(&body).unwrap();
        let answer = EnrollAnswer {
            fleet: "demo".parse().unwrap(),
            host: HostId::of_key(asked.key.as_bytes()),
            name: asked.name.clone(),
            labels: "role=web".parse().unwrap(),
            environment: "dev".parse().unwrap(),
            certificate_pem: self.certificate(&asked.key),
            agents: Self::address(&self.agents),
            api: Self::address(&self.api),
            blobs: format!("http://{}", Self::address(&self.blobs)),
        };
        respond(&mut stream, &serde_json::to_vec(&answer).unwrap()).await;
        asked
    }

    /// Takes one session up to its first report.
    async fn session(&self) -> (Peer, Report, Session) {
        let (stream, _) = timeout(SOON, self.agents.accept()).await.unwrap().unwrap();
        let acceptor = TlsAcceptor::from(self.server(ClientAuth::Required));
        let stream = acceptor.accept(stream).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates();
        let peer = Peer::from_certificates(chain).unwrap().unwrap();
        let mut framed = Framed::new(stream, "the agent");
        let hello = framed.recv::<ToCoordinator>(SOON).await.unwrap();
        assert!(matches!(hello, Some(ToCoordinator::Hello(_))), "{hello:?}");
        let welcome = Welcome {
            heartbeat_secs: 20,
            backoff: Backoff { base_ms: 1, cap_ms: 1 },
            blobs: format!("http://{}", Self::address(&self.blobs)),
            roots: Vec::new(),
        };
        framed.send(&ToAgent::Welcome(welcome), SOON).await.unwrap();
        let said = framed.recv::<ToCoordinator>(SOON).await.unwrap();
        let Some(ToCoordinator::Report(report)) = said else { panic!("{said:?}") };
        (peer, report, framed)
    }
}

type Session = Framed<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>;

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await.unwrap());
        if bytes.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.to_ascii_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|n| n.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

async fn respond(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream.flush().await.unwrap();
}

/// The configuration of an agent whose state is in `dir`.
fn configure(dir: &Path) -> PathBuf {
    let config = dir.join("agent.toml");
    let state = dir.join("state");
    let text = format!("state_dir = {state:?}\nname = \"web-1\"\nsupervisor = \"process\"\n");
    std::fs::write(&config, text).unwrap();
    config
}

fn agent(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_groundswell-agent"));
    command.args(arguments).arg("--config").arg(config).stdin(Stdio::null());
    command
}

async fn finish(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_host_enrols_connects_reports_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path());
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().to_string();
    let enrol = finish(agent(&config, &["enroll", &token]));
    let (asked, output) = tokio::join!(coordinator.enrol_one(), enrol);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(asked.name.as_str(), "web-1");
    let again = finish(agent(&config, &["enroll", &token])).await;
    assert_eq!(again.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"));

    let running = agent(&config, &["run"]).stderr(Stdio::null()).spawn().unwrap();
    let (peer, report, session) = coordinator.session().await;
    assert_eq!(peer.role, PeerRole::Agent(HostId::of_key(asked.key.as_bytes())));
    assert_eq!((report.generation, report.services.len()), (0, 0));
    assert!(report.free_bytes > 0);
    let second = finish(agent(&config, &["run"])).await;
    assert_eq!(second.status.code(), Some(75), "the state directory is locked");

    let status = finish(agent(&config, &["status", "--json"])).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["name"], "web-1");
    assert_eq!(status["root_version"], 1);

    drop(session);
    end(running).await;
}

/// Asks it to end, which it must do in order.
async fn end(mut running: Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || running.wait().unwrap());
    let ended = timeout(SOON, ended).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn the_two_sides_keep_apart_and_find_each_other_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path());
    let (net_dir, socket) = (dir.path().join("net"), dir.path().join("apply.sock"));
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}net_dir = {net_dir:?}\nsocket = {socket:?}\n")).unwrap();
    let coordinator = Coordinator::start().await;
    let token = coordinator.token().to_string();
    let enrol = finish(agent(&config, &["enroll", &token]));
    let (_, output) = tokio::join!(coordinator.enrol_one(), enrol);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (path, here) in [
        ("state/identity.json", true),
        ("state/root.json", true),
        ("state/identity", false),
        ("state/spool", false),
        ("net/identity/host.key", true),
        ("net/identity/host.crt", true),
    ] {
        assert_eq!(dir.path().join(path).exists(), here, "{path}");
    }
    let start = |side| agent(&config, &[side]).stderr(Stdio::null()).spawn().unwrap();
    // In either order.
    let mut net = start("net");
    let mut apply = start("apply");
    let (_, report, session) = coordinator.session().await;
    assert_eq!((report.generation, report.services.len()), (0, 0));
    for side in ["net", "apply"] {
        let second = finish(agent(&config, &[side])).await;
        assert_eq!(second.status.code(), Some(75), "{side} runs already");
    }
    net.kill().unwrap();
    net.wait().unwrap();
    drop(session);
    let net = start("net");
    let (_, _, mut session) = coordinator.session().await;
    // Without an apply side there is nobody to speak for.
    apply.kill().unwrap();
    apply.wait().unwrap();
    while session.recv::<ToCoordinator>(SOON).await.is_ok_and(|said| said.is_some()) {}
    let apply = start("apply");
    let (_, _, session) = coordinator.session().await;
    end(apply).await;
    end(net).await;
    drop(session);
}

#[tokio::test]
async fn another_root_than_the_token_names_is_refused_before_the_secret_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path());
    let coordinator = Coordinator::start().await;
    let token = Token { root: Digest::of(b"another"), ..coordinator.token() };
    let line = token.to_string();
    let enrol = finish(agent(&config, &["enroll", &line]));
    let serve = async {
        let (mut stream, _) = coordinator.blobs.accept().await.unwrap();
        request(&mut stream).await;
        respond(&mut stream, &coordinator.root.to_json()).await;
    };
    let ((), output) = tokio::join!(serve, enrol);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("is not the"), "{said}");
    assert!(!dir.path().join("state/identity/host.key").exists(), "no key was made");
}

#[tokio::test]
async fn wrong_use_is_told_apart_by_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let config = configure(dir.path());
    for (arguments, code, says) in [
        (vec!["run"], 78, "not enrolled"),
        (vec!["net"], 78, "net_dir is not set"),
        (vec!["apply"], 78, "net_dir is not set"),
        (vec!["enroll", "nonsense"], 78, "gsw1."),
        (vec!["config", "allows", "sshd.service"], 1, ""),
        (vec!["status"], 0, ""),
        (vec!["doctor"], 1, ""),
    ] {
        let output = finish(agent(&config, &arguments)).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    std::fs::write(&config, "colour = 1\n").unwrap();
    let output = finish(agent(&config, &["config", "show"])).await;
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("agent.toml") && said.contains("colour"), "{said}");
}
