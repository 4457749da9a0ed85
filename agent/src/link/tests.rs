use groundswell_common::HostId;
use groundswell_common::wire::{Farewell, LEVEL_NEWEST};
use groundswell_net::tls::{ClientAuth, client_config, knowing, knowing_all, server_config};
use groundswell_net::{Peer, PeerRole};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::contact::{self, Contact, Link};
use crate::fixture::key;
use crate::layout::Layout;

const SOON: Duration = Duration::from_secs(20);

/// A coordinator of one connection at a time, and the link that connects to it.
struct Pair {
    layout: Layout,
    _dir: tempfile::TempDir,
    listener: TcpListener,
    tls: Arc<groundswell_net::tls::ServerConfig>,
    said: watch::Sender<Option<Said>>,
    says: mpsc::Sender<Say>,
    heard: mpsc::Receiver<Heard>,
    access: watch::Sender<Access>,
}

fn certificate(
    issuer: &rcgen::Issuer<'_, rcgen::KeyPair>,
    seed: u8,
    name: rcgen::SanType,
    (usage, begins): (rcgen::ExtendedKeyUsagePurpose, i32),
) -> (String, String) {
    let pem = key(seed).to_pem().unwrap().to_string();
    let pair = rcgen::KeyPair::from_pem(&pem).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.subject_alt_names = vec![name];
    params.extended_key_usages = vec![usage];
    params.not_before = rcgen::date_time_ymd(begins, 1, 1);
    (params.signed_by(&pair, issuer).unwrap().pem(), pem)
}

async fn pair() -> Pair {
    pair_of(2000).await
}

/// As [`pair`], the coordinator's certificate beginning with this year.
async fn pair_of(begins: i32) -> Pair {
    let ca = rcgen::KeyPair::from_pem(&key(9).to_pem().unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authorities = [params.self_signed(&ca).unwrap().der().to_vec()];
    let issuer = rcgen::Issuer::new(params, ca);
    let address = rcgen::SanType::IpAddress("127.0.0.1".parse().unwrap());
    let server =
        certificate(&issuer, 8, address, (rcgen::ExtendedKeyUsagePurpose::ServerAuth, begins));
    let id = HostId::of_key(key(7).public().as_bytes());
    let uri = Peer::uri(&"demo".parse().unwrap(), &PeerRole::Agent(id));
    let uri = rcgen::SanType::URI(uri.try_into().unwrap());
    let own = certificate(&issuer, 7, uri, (rcgen::ExtendedKeyUsagePurpose::ClientAuth, 2000));
    let tls = server_config(&authorities, &server.0, &server.1, ClientAuth::Required).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Nobody listens at the first of the two.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let (access, access_receiver) = watch::channel(Access {
        addresses: vec![dead, listener.local_addr().unwrap().to_string()],
        tls: knowing(&client_config(&authorities, Some((&own.0, &own.1))).unwrap(), LEVEL_NEWEST),
        hello: hello("web-1".parse().unwrap(), 1),
    });
    let (said, said_receiver) = watch::channel(None);
    let (says, says_receiver) = mpsc::channel(QUEUE_MAX);
    let (heard_sender, heard) = mpsc::channel(QUEUE_MAX);
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let (access_end, says_end) = (access_receiver, says_receiver);
    tokio::spawn(run(Ends {
        access: access_end,
        says: says_end,
        said: said_receiver,
        heard: heard_sender,
        notes: Notes::new(&layout),
    }));
    Pair { listener, tls, said, says, heard, access, layout, _dir: dir }
}

type Server = Framed<tokio_rustls::server::TlsStream<TcpStream>>;

impl Pair {
    /// Takes the next connection, up to its hello.
    async fn accept(&self) -> (Server, Hello) {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.unwrap().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(self.tls.clone());
        let mut framed = Framed::new(acceptor.accept(stream).await.unwrap(), "the agent");
        let hello = framed.recv::<ToCoordinator>(SOON).await.unwrap();
        let Some(ToCoordinator::Hello(hello)) = hello else { panic!("{hello:?}") };
        (framed, hello)
    }

    async fn welcome(&self, heartbeat_secs: u64) -> Server {
        let (mut server, _) = self.accept().await;
        let welcome = Welcome {
            heartbeat_secs,
            backoff: Backoff { base_ms: 1, cap_ms: 1 },
            blobs: "http://127.0.0.1:1".to_owned(),
            roots: Vec::new(),
        };
        server.send(&ToAgent::Welcome(welcome), SOON).await.unwrap();
        server
    }

    async fn next(&mut self) -> Heard {
        timeout(SOON, self.heard.recv()).await.unwrap().unwrap()
    }

    fn publish(&self, seq: u64) {
        let report =
            Report { seq, generation: 0, services: Vec::new(), free_bytes: 0, refusal: None };
        let condition = Some(Arc::new(Condition { free_bytes: seq, ..Condition::default() }));
        self.said.send_replace(Some(Said { report: Arc::new(report), condition }));
    }
}

async fn report(server: &mut Server) -> u64 {
    let message = server.recv::<ToCoordinator>(SOON).await.unwrap();
    let Some(ToCoordinator::Report(report)) = message else { panic!("{message:?}") };
    report.seq
}

#[tokio::test]
async fn the_newest_report_is_sent_after_each_connect_and_each_change() {
    let mut pair = pair().await;
    pair.publish(1);
    pair.publish(2);
    let mut server = pair.welcome(20).await;
    assert!(matches!(pair.next().await, Heard::Welcome(_)));
    assert_eq!(report(&mut server).await, 2, "only the newest");
    pair.publish(3);
    assert_eq!(report(&mut server).await, 3);
    drop(server);
    assert!(matches!(pair.next().await, Heard::Lost));
    let mut server = pair.welcome(20).await;
    assert_eq!(report(&mut server).await, 3, "again, whole");
}

#[tokio::test]
async fn a_coordinator_that_takes_conditions_hears_them_before_the_report() {
    let mut pair = pair().await;
    pair.tls = knowing_all(&pair.tls);
    pair.publish(2);
    let mut server = pair.welcome(20).await;
    assert!(matches!(pair.next().await, Heard::Welcome(_)));
    let said = server.recv::<ToCoordinator>(SOON).await.unwrap();
    let Some(ToCoordinator::Condition(condition)) = said else { panic!("{said:?}") };
    assert_eq!(condition.free_bytes, 2);
    assert_eq!(report(&mut server).await, 2);
    // Of what did not change nothing is said again.
    pair.said.send_modify(|said| {
        let said = said.as_mut().unwrap();
        said.condition = Some(Arc::new(Condition { free_bytes: 9, ..condition.clone() }));
    });
    let said = server.recv::<ToCoordinator>(SOON).await.unwrap();
    let Some(ToCoordinator::Condition(condition)) = said else { panic!("{said:?}") };
    assert_eq!(condition.free_bytes, 9);
}

#[tokio::test]
async fn questions_and_returns_go_out_and_answers_come_in_order() {
    let mut pair = pair().await;
    let mut server = pair.welcome(20).await;
    assert!(matches!(pair.next().await, Heard::Welcome(_)));
    pair.says.send(Say::Done { nonce: [7; 16], used: true }).await.unwrap();
    let said = server.recv::<ToCoordinator>(SOON).await.unwrap();
    assert_eq!(said, Some(ToCoordinator::PermitDone { nonce: [7; 16], used: true }));
    server.send(&ToAgent::ReportAck { seq: 4 }, SOON).await.unwrap();
    let nonce = [7; 16];
    let denied = PermitAnswer::Denied { nonce, deny: groundswell_common::wire::Deny::Stopped };
    server.send(&ToAgent::Permit(denied.clone()), SOON).await.unwrap();
    assert!(matches!(pair.next().await, Heard::Ack(4)));
    assert!(matches!(pair.next().await, Heard::Permit(answer) if *answer == denied));
    pair.access.send_modify(|access| access.hello.root_version = 2);
    assert!(matches!(pair.next().await, Heard::Lost));
    let (_, hello) = pair.accept().await;
    assert_eq!((hello.host_name.as_str(), hello.root_version), ("web-1", 2));
}

#[tokio::test]
async fn an_idle_link_beats_and_a_silent_coordinator_is_left() {
    let mut pair = pair().await;
    let mut server = pair.welcome(1).await;
    assert!(matches!(pair.next().await, Heard::Welcome(_)));
    for _ in 0..2 {
        let beat = server.recv::<ToCoordinator>(SOON).await.unwrap();
        assert_eq!(beat, Some(ToCoordinator::Beat));
    }
    // Never answered: after three beats without a word the link gives up by itself.
    assert!(matches!(pair.next().await, Heard::Lost));
}

#[tokio::test]
async fn who_is_sent_away_comes_back_no_sooner_than_told() {
    let mut pair = pair().await;
    let (mut server, _) = pair.accept().await;
    let farewell = Farewell { why: "full".to_owned(), retry_after_ms: 300 };
    server.send(&ToAgent::Farewell(farewell), SOON).await.unwrap();
    assert!(matches!(pair.next().await, Heard::Lost));
    let left = Instant::now();
    drop(pair.accept().await);
    assert!(left.elapsed() >= Duration::from_millis(290), "{:?}", left.elapsed());
}

/// What a person on the host is told of the connection.
#[tokio::test]
async fn how_the_connection_stands_is_noted() {
    let pair = pair().await;
    let noted = |want: fn(&Link) -> bool| {
        let layout = pair.layout.clone();
        let noted = async move {
            loop {
                let contact = contact::load(&layout);
                if let Some(contact) = contact.filter(|contact| want(&contact.link)) {
                    return contact;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, noted)
    };
    let down = |link: &Link| matches!(link, Link::Down { why } if why.contains("yet to connect"));
    let before = noted(down).await.unwrap();
    let mut server = pair.welcome(20).await;
    let up = noted(|link| *link == Link::Up { twin: false }).await.unwrap();
    assert!(up.since >= before.since);
    server.send(&ToAgent::Twin { there: true }, SOON).await.unwrap();
    let copied = noted(|link| *link == Link::Up { twin: true }).await.unwrap();
    assert_eq!(copied.since, up.since, "it is the same connection");
    server.send(&ToAgent::Twin { there: false }, SOON).await.unwrap();
    noted(|link| *link == Link::Up { twin: false }).await.unwrap();
    let why = "the host is not enrolled; enrol it again".to_owned();
    let farewell = Farewell { why, retry_after_ms: 60_000 };
    server.send(&ToAgent::Farewell(farewell), SOON).await.unwrap();
    let down = |link: &Link| matches!(link, Link::Down { why } if why.contains("not enrolled"));
    assert!(noted(down).await.unwrap().since >= up.since);
}

#[tokio::test]
async fn a_clock_that_is_behind_is_named_as_the_cause() {
    let pair = pair_of(2090).await;
    let (stream, _) = timeout(SOON, pair.listener.accept()).await.unwrap().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(pair.tls.clone());
    assert!(acceptor.accept(stream).await.is_err(), "the agent refuses the certificate");
    let named = async {
        loop {
            if let Some(Contact { link: Link::Down { why }, .. }) = contact::load(&pair.layout)
                && why.contains("the clock of this host is at least")
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, named).await.unwrap();
}

#[tokio::test]
async fn what_the_host_is_told_comes_with_the_address_that_worked() {
    let mut pair = pair().await;
    pair.tls = knowing_all(&pair.tls);
    let mut server = pair.welcome(20).await;
    assert!(matches!(pair.next().await, Heard::Welcome(_)));
    let envelope =
        groundswell_common::trust::Envelope::new::<groundswell_common::trust::Told>(vec![1]);
    server.send(&ToAgent::Told(envelope.clone()), SOON).await.unwrap();
    let Heard::Told(told, used) = pair.next().await else { panic!("it is handed on") };
    assert_eq!((*told, used), (envelope, pair.listener.local_addr().unwrap().to_string()));
}
