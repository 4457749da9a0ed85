use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use groundswell_common::condition::{Condition, Lack};
use groundswell_common::directive::{Action, Directive, Permit};
use groundswell_common::report::{HostState, Report, Standing};
use groundswell_common::trust::{Document, Envelope};
use groundswell_common::wire::{DirectiveMessage, PermitAnswer, PermitRequest, frame};
use groundswell_common::{Digest, codec};
use groundswell_net::{Framed, NetError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::apply::{Ends, Gate, run};
use super::depot::RelayDepot;
use super::message::{Begin, FETCHES_MAX, Open, ToApply, ToNet};
use crate::cancel;
use crate::clock::SteadyClock;
use crate::driver::{self, Driver, DriverError};
use crate::fetch::FetchError;
use crate::fixture::{self, Made, directive, key, release, shop};
use crate::layout::Layout;
use crate::link::Said;
use crate::link::{Heard, Say};
use crate::live::Live;
use crate::ports::Depot;
use crate::probe::RealProbes;
use crate::stage::{self, Unpack};
use crate::switch;
use crate::told::Places;
use crate::units::simulated::SimulatedUnits;
use crate::work::Outside;

const SOON: Duration = Duration::from_secs(20);

/// The directories of a host, and the socket.
struct Place {
    _dir: tempfile::TempDir,
    layout: Layout,
    socket: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (state, net) = (dir.path().join("state"), dir.path().join("net"));
    for made in [&state, &net, &net.join("spool"), &net.join("identity")] {
        fs::create_dir(made).unwrap();
    }
    let socket = dir.path().join("apply.sock");
    Place { layout: Layout::split(&state, &net), socket, _dir: dir }
}

/// The apply side's end of the socket, with the driver's ends in the test's hands.
struct Side {
    place: Place,
    says: mpsc::Sender<Say>,
    said: watch::Sender<Option<Said>>,
    root: watch::Sender<Envelope>,
    places: watch::Sender<Places>,
    heard: mpsc::Receiver<Heard>,
    depot: Arc<RelayDepot>,
}

fn side() -> Side {
    let place = place();
    let loaded = fixture::loaded();
    let (root, newest) = watch::channel(loaded.root);
    let (said, sayings) = watch::channel(None);
    let (heard_sender, heard) = mpsc::channel(8);
    let (says, asked) = mpsc::channel(8);
    let (places, places_seen) = watch::channel(loaded.places);
    let from = (newest, places_seen, heard_sender);
    let (ends, depot) = Ends::new(place.layout.clone(), (asked, sayings), from);
    let gate = Gate::open(&place.layout, &place.socket).unwrap();
    tokio::spawn(run(gate, loaded.identity.blobs, ends));
    Side { place, says, said, root, places, heard, depot: Arc::new(depot) }
}

impl Side {
    async fn net(&self) -> Net {
        Net::connect(&self.place).await
    }

    async fn hear(&mut self) -> Heard {
        timeout(SOON, self.heard.recv()).await.expect("something is heard").unwrap()
    }

    /// Begins a fetch, as a job of the driver does.
    fn fetch(&self, digest: Digest) -> JoinHandle<Result<Vec<u8>, FetchError>> {
        let depot = self.depot.clone();
        tokio::spawn(async move {
            let (_keep, never) = cancel::switch();
            let mut file = depot.fetch(&digest, 1_000, &never).await?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            Ok(bytes)
        })
    }
}

/// A network side that the test plays.
struct Net {
    framed: Framed<UnixStream>,
    layout: Layout,
    /// Whether the first message was of a side that knows what is told.
    began: bool,
}

impl Net {
    async fn connect(place: &Place) -> Self {
        let stream = UnixStream::connect(&place.socket).await.unwrap();
        let mut net = Self {
            framed: Framed::new(stream, "apply"),
            layout: place.layout.clone(),
            began: false,
        };
        let open = net.next().await;
        let name = match &open {
            Some(ToNet::Begin(begin)) => &begin.places.name,
            Some(ToNet::Open(open)) => &open.name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name.as_str(), "web-1");
        net.began = matches!(open, Some(ToNet::Begin(_)));
        net
    }

    async fn next(&mut self) -> Option<ToNet> {
        self.framed.recv(SOON).await.unwrap()
    }

    /// The next message that is neither a report nor about the spool's tidiness.
    async fn word(&mut self) -> ToNet {
        loop {
            match self.next().await.expect("the session stands") {
                ToNet::Report(_)
                | ToNet::Condition(_)
                | ToNet::Clear
                | ToNet::Discard(_)
                | ToNet::Beat => {}
                word @ (ToNet::Open(_)
                | ToNet::Begin(_)
                | ToNet::Places(_)
                | ToNet::Root(_)
                | ToNet::Ask(_)
                | ToNet::Done { .. }
                | ToNet::Fetch { .. }
                | ToNet::Stop { .. }) => return word,
            }
        }
    }

    async fn say(&mut self, message: &ToApply) {
        self.framed.send(message, SOON).await.unwrap();
    }

    /// Waits for the next fetch, lets `put` fill the spool, and says that it is there.
    async fn bring(&mut self, put: impl FnOnce(&PathBuf)) -> Digest {
        let ToNet::Fetch { number, digest, .. } = self.word().await else {
            panic!("nothing is wanted")
        };
        put(&self.layout.part(&digest));
        self.say(&ToApply::Fetched { number, failure: None }).await;
        digest
    }

    async fn direct(&mut self, generation: u64, action: Action, of: &Made) {
        let message = directive(generation, action, &[of]);
        self.say(&ToApply::Directive(message)).await;
    }

    /// Waits for a report of the service that fits.
    async fn until(&mut self, what: &str, fits: impl Fn(&Standing) -> bool) -> Standing {
        let found = timeout(SOON, async {
            loop {
                let Some(ToNet::Report(report)) = self.next().await else { continue };
                if let Some(found) = report.services.iter().find(|standing| fits(standing)) {
                    return found.clone();
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("never {what}"))
    }
}

fn welcome() -> ToApply {
    ToApply::Welcome(fixture::welcome())
}

fn condition(free_bytes: u64) -> Condition {
    Condition { free_bytes, ..Condition::default() }
}

fn question() -> PermitRequest {
    let release = good(1).id;
    PermitRequest { generation: 1, service: shop(), release, nonce: [3; 16] }
}

fn good(seq: u64) -> Made {
    release(seq, &[("bin/shop", format!("this is {seq}").as_bytes())], &[], |_| {})
}

#[tokio::test]
async fn a_network_side_of_a_build_before_gets_what_that_build_knows() {
    let side = side();
    let report = Report { seq: 4, generation: 0, services: vec![], free_bytes: 0, refusal: None };
    let (report_sent, says_it) = (Arc::new(report.clone()), Some(Arc::new(condition(1))));
    side.said.send_replace(Some(Said { report: report_sent, condition: says_it }));
    let mut older = side.net().await;
    assert!(older.began, "which it cannot read");
    drop(older.next().await);
    drop(older);
    let mut older = side.net().await;
    assert!(!older.began);
    assert_eq!(older.next().await, Some(ToNet::Report(report)), "and stays");
}

#[tokio::test]
async fn what_the_driver_says_and_hears_goes_over_the_socket() {
    let mut side = side();
    let report = Report { seq: 4, generation: 0, services: vec![], free_bytes: 0, refusal: None };
    let (report_sent, says_it) = (Arc::new(report.clone()), Some(Arc::new(condition(1))));
    side.said.send_replace(Some(Said { report: report_sent, condition: says_it }));
    let mut net = side.net().await;
    assert_eq!(net.next().await, Some(ToNet::Condition(condition(1))), "before what it explains");
    assert_eq!(net.next().await, Some(ToNet::Report(report.clone())), "first of all");
    side.says.send(Say::Ask(question())).await.unwrap();
    assert_eq!(net.word().await, ToNet::Ask(question()));
    side.says.send(Say::Done { nonce: [3; 16], used: true }).await.unwrap();
    assert_eq!(net.word().await, ToNet::Done { nonce: [3; 16], used: true });
    let root = fixture::root(2, |_| {});
    side.root.send_replace(root.clone());
    assert_eq!(net.word().await, ToNet::Root(root.clone()));
    let mut places = fixture::loaded().places;
    places.agents.push("new:1".to_owned());
    side.places.send_replace(places.clone());
    assert_eq!(net.word().await, ToNet::Places(places));
    let told = (fixture::told(1, "web-9", &["new:1"]), "old:1".to_owned());
    net.say(&ToApply::Told(told.0.clone(), told.1.clone())).await;
    let Heard::Told(envelope, used) = side.hear().await else { panic!("it is handed on") };
    assert_eq!((*envelope, used), told);
    for message in [welcome(), ToApply::Beat, ToApply::Ack(7), ToApply::Lost] {
        net.say(&message).await;
    }
    assert!(matches!(side.hear().await, Heard::Welcome(_)));
    assert!(matches!(side.hear().await, Heard::Ack(7)));
    assert!(matches!(side.hear().await, Heard::Lost));
    // A session that ends is told, and the next one has the report and the newest root again.
    drop(net);
    assert!(matches!(side.hear().await, Heard::Lost));
    let stream = UnixStream::connect(&side.place.socket).await.unwrap();
    let mut framed = Framed::new(stream, "apply");
    let open: Option<ToNet> = framed.recv(SOON).await.unwrap();
    assert!(matches!(open, Some(ToNet::Begin(Begin { root: newest, .. })) if newest == root));
    assert_eq!(framed.recv::<ToNet>(SOON).await.unwrap(), Some(ToNet::Condition(condition(1))));
    assert_eq!(framed.recv::<ToNet>(SOON).await.unwrap(), Some(ToNet::Report(report)));
}

/// Whatever comes that is no message ends the session; the driver hears that it is over and the next
/// session works.
#[tokio::test]
async fn what_is_no_message_ends_the_session_and_nothing_else() {
    let whole = |body: &[u8]| frame(body).unwrap();
    let mut side = side();
    let cases: [(&str, Vec<u8>); 9] = [
        ("a length over the limit", vec![0xff; 64]),
        ("one byte over the limit", (256 * 1024 + 1_u32).to_be_bytes().to_vec()),
        ("an empty frame", vec![0; 4]),
        ("another version", whole(&[9, 4])),
        ("a message that nobody knows", whole(&[codec::WIRE_VERSION, 200])),
        ("an open string", whole(&[codec::WIRE_VERSION, 5, 0, 1, 253, 255, 255, 255, 255])),
        ("bytes left over", whole(&[codec::WIRE_VERSION, 6, 0])),
        ("half a head", vec![0, 0]),
        ("half a frame", vec![0, 0, 0, 9, codec::WIRE_VERSION]),
    ];
    for (what, bytes) in cases {
        let mut stream = UnixStream::connect(&side.place.socket).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{what}: the session goes on");
        assert!(matches!(side.hear().await, Heard::Lost), "{what}");
    }
    let mut net = side.net().await;
    net.say(&ToApply::Ack(1)).await;
    assert!(matches!(side.hear().await, Heard::Ack(1)));
}

#[tokio::test]
async fn who_is_let_in_is_the_owner_of_the_directory_at_that_time() {
    let mut side = side();
    let net = side.place.layout.net().to_owned();
    let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&net).unwrap());
    let give = |user| std::os::unix::fs::chown(&net, Some(user), None).expect("run it as root");
    give(own + 1);
    let mut stream = UnixStream::connect(&side.place.socket).await.unwrap();
    let mut said = Vec::new();
    timeout(SOON, stream.read_to_end(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, b"", "not even a greeting");
    assert!(side.heard.try_recv().is_err(), "and the driver never hears of it");
    give(own);
    let mut net = side.net().await;
    net.say(&ToApply::Ack(1)).await;
    assert!(matches!(side.hear().await, Heard::Ack(1)));
}

#[tokio::test]
async fn a_fetch_outlives_the_session_and_ends_with_its_work() {
    let side = side();
    let digest = Digest::of(b"blob");
    let fetch = side.fetch(digest);
    let mut net = side.net().await;
    assert!(
        matches!(net.word().await, ToNet::Fetch { digest: d, limit_bytes: 1_000, .. } if d == digest)
    );
    // The network side is killed in the middle: the next one is asked again.
    drop(net);
    let mut net = side.net().await;
    net.bring(|path| fs::write(path, b"blob").unwrap()).await;
    assert_eq!(fetch.await.unwrap().unwrap(), b"blob");
    // What was cleared away as it came is asked for again, but not for ever.
    let fetch = side.fetch(digest);
    for _ in 0..3 {
        net.bring(|path| drop(fs::remove_file(path))).await;
    }
    assert!(matches!(fetch.await.unwrap(), Err(FetchError::Fault(_))));
    // The other side's own words, cut to size.
    let fetch = side.fetch(digest);
    let ToNet::Fetch { number, .. } = net.word().await else { panic!("nothing is wanted") };
    net.say(&ToApply::Fetched { number: number + 7, failure: None }).await;
    net.say(&ToApply::Fetched { number, failure: Some("x".repeat(100_000)) }).await;
    let failed = fetch.await.unwrap();
    assert!(matches!(failed, Err(FetchError::Relayed { why, .. }) if why.len() == 1024));
    // What is no longer wanted is stopped.
    let fetch = side.fetch(digest);
    let ToNet::Fetch { number, .. } = net.word().await else { panic!("nothing is wanted") };
    fetch.abort();
    assert_eq!(net.word().await, ToNet::Stop { number });
    side.depot.discard(&digest);
    assert_eq!(net.next().await, Some(ToNet::Discard(digest)));
    side.depot.clear().unwrap();
    assert_eq!(net.next().await, Some(ToNet::Clear));
}

#[tokio::test]
async fn more_fetches_than_services_are_refused() {
    let side = side();
    let mut net = side.net().await;
    let fetches: Vec<_> =
        (0..=FETCHES_MAX).map(|n| side.fetch(Digest::of(&n.to_le_bytes()))).collect();
    for _ in 0..FETCHES_MAX {
        assert!(matches!(net.word().await, ToNet::Fetch { .. }));
    }
    let ended = futures_util::future::select_all(fetches).await.0.unwrap();
    assert!(matches!(ended, Err(FetchError::Relayed { why, .. }) if why.contains("too many")));
}

/// A whole apply side, with the driver, whose network side the test plays.
struct Host {
    place: Place,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), DriverError>>,
}

impl Host {
    fn start(place: Place) -> Self {
        let loaded = fixture::loaded();
        let (root, newest) = watch::channel(loaded.root.clone());
        let (said, sayings) = watch::channel(None);
        let (heard_sender, heard) = mpsc::channel(8);
        let (says, asked) = mpsc::channel(8);
        let layout = place.layout.clone();
        let (places, places_seen) = watch::channel(loaded.places.clone());
        let from = (newest, places_seen, heard_sender);
        let (ends, depot) = Ends::new(layout.clone(), (asked, sayings), from);
        let gate = Gate::open(&layout, &place.socket).unwrap();
        let listening = tokio::spawn(run(gate, loaded.identity.blobs.clone(), ends));
        let outside = Outside {
            layout,
            units: Arc::new(SimulatedUnits::default()),
            probes: Arc::new(RealProbes),
            depot: Arc::new(depot),
            clock: Arc::new(SteadyClock::start()),
            settings: Live::fixed(fixture::settings()),
            program: None,
        };
        let back = mpsc::channel(8);
        let ends = driver::Ends { heard, says, said, root, places, back };
        let mut driver = Driver::start(outside, loaded, ends).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let ended = driver.run(async { drop(stopped.await) }).await;
            drop(driver);
            listening.abort();
            drop(listening.await);
            ended
        });
        Self { place, stop, task }
    }

    /// Ends it as a kill would: nothing is told to the machines.
    async fn stop(self) -> Place {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        self.place
    }

    fn live(&self) -> Option<groundswell_common::ReleaseId> {
        switch::live(&self.place.layout, &shop()).unwrap()
    }
}

fn forged<D: Document>(envelope: &Envelope) -> Envelope {
    Envelope::new::<D>(envelope.payload.clone()).signed_by(&key(5))
}

/// Everything that a taken-over network side can say and put into the spool. The worst that it gets is that
/// a release fails on its own host.
#[tokio::test]
async fn a_network_side_that_lies_makes_nothing_live() {
    let host = Host::start(place());
    let mut net = Net::connect(&host.place).await;
    net.say(&welcome()).await;
    // A directive that the director did not sign.
    let one = good(1);
    let message = directive(1, Action::Switch { release: one.id }, &[&one]);
    let envelope = forged::<Directive>(&message.envelope);
    net.say(&ToApply::Directive(DirectiveMessage { envelope, ..message })).await;
    let refused = timeout(SOON, async {
        loop {
            let Some(ToNet::Report(report)) = net.next().await else { continue };
            if let Some(refusal) = report.refusal {
                return refusal.code;
            }
        }
    });
    assert_eq!(refused.await.unwrap(), "untrusted");
    // True directives, and lies about their blobs.
    type Lie = fn(&PathBuf, &Made);
    let bundle_of_another = good(77).bundle;
    let in_place_of_the_manifest: [(&str, Lie); 6] = [
        ("other bytes", |path, _| fs::write(path, b"{}").unwrap()),
        ("another release's", |path, _| fs::write(path, good(78).payload).unwrap()),
        ("one byte more", |path, made| {
            fs::write(path, [&made.payload[..], b" "].concat()).unwrap();
        }),
        ("a link to the very bytes", |path, made| {
            let beside = path.with_extension("beside");
            fs::write(&beside, &made.payload).unwrap();
            symlink(beside, path).unwrap();
        }),
        ("a pipe", |path, _| {
            let kind = rustix::fs::FileType::Fifo;
            let mode = rustix::fs::Mode::from(0o600_u32);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        }),
        ("more than a manifest may have", |path, _| {
            fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
        }),
    ];
    let mut seq = 10;
    for (what, lie) in in_place_of_the_manifest {
        let made = good(seq);
        net.direct(seq, Action::Stage { release: made.id }, &made).await;
        let wanted = net.bring(|path| lie(path, &made)).await;
        assert_eq!(wanted, *made.id.digest());
        held(&mut net, what).await;
        seq += 1;
    }
    for (what, bundle) in [("another bundle", bundle_of_another), ("no bundle", vec![0; 100])] {
        let made = good(seq);
        net.direct(seq, Action::Stage { release: made.id }, &made).await;
        net.bring(|path| fs::write(path, &made.payload).unwrap()).await;
        net.bring(|path| fs::write(path, &bundle).unwrap()).await;
        held(&mut net, what).await;
        seq += 1;
    }
    assert_eq!(host.live(), None);
    // The truth at last, and a permit that is none.
    let made = good(seq);
    net.direct(seq, Action::Switch { release: made.id }, &made).await;
    net.bring(|path| fs::write(path, &made.payload).unwrap()).await;
    net.bring(|path| fs::write(path, &made.bundle).unwrap()).await;
    let asked = asked(&mut net).await;
    let envelope = forged::<Permit>(&fixture::permit(&asked, 2_000));
    net.say(&ToApply::Permit(PermitAnswer::Granted { nonce: asked.nonce, envelope })).await;
    assert_eq!(net.word().await, ToNet::Done { nonce: asked.nonce, used: false });
    assert_eq!(host.live(), None);
    assert_eq!(fs::read_dir(host.place.layout.releases(&shop())).unwrap().count(), 1);
    // Nor does an old one help, nor one of a session before.
    drop(net);
    let mut net = Net::connect(&host.place).await;
    let envelope = fixture::permit(&asked, 2_000);
    net.say(&ToApply::Permit(PermitAnswer::Granted { nonce: asked.nonce, envelope })).await;
    assert_eq!(net.word().await, ToNet::Done { nonce: asked.nonce, used: false });
    assert_eq!(host.live(), None);
    net.say(&welcome()).await;
    let_switch(&mut net).await;
    net.until("live", |standing| standing.running == Some(made.id)).await;
    assert_eq!(host.live(), Some(made.id));
    host.stop().await;
}

/// Nobody can tell a release whose bytes are wrong from a way on which they become so: the host lacks them.
async fn held(net: &mut Net, what: &str) {
    let found = timeout(SOON, async {
        loop {
            let Some(ToNet::Condition(condition)) = net.next().await else { continue };
            let mut services = condition.services.into_iter();
            if let Some(held) = services.find_map(|service| service.held) {
                return held;
            }
        }
    });
    let held = found.await.unwrap_or_else(|_| panic!("never {what}"));
    assert_eq!(held.lack, Lack::Bytes, "{what}: {}", held.why);
}

async fn asked(net: &mut Net) -> PermitRequest {
    let word = timeout(SOON, net.word()).await.expect("a question");
    let ToNet::Ask(request) = word else { panic!("not a question: {word:?}") };
    request
}

async fn let_switch(net: &mut Net) {
    let request = asked(net).await;
    let envelope = fixture::permit(&request, 2_000);
    net.say(&ToApply::Permit(PermitAnswer::Granted { nonce: request.nonce, envelope })).await;
    assert_eq!(net.word().await, ToNet::Done { nonce: request.nonce, used: true });
}

/// Either side is ended at each stage of a rollout; what comes back goes on, and ends in the right release.
#[tokio::test]
async fn either_side_may_go_at_any_stage() {
    let mut host = Host::start(place());
    let mut net = Net::connect(&host.place).await;
    let made = good(1);
    net.direct(1, Action::Switch { release: made.id }, &made).await;
    assert!(matches!(net.word().await, ToNet::Fetch { .. }));
    // The apply side goes while it waits for the manifest: it asks again by itself, from its journal.
    host = Host::start(host.stop().await);
    net = Net::connect(&host.place).await;
    net.bring(|path| fs::write(path, &made.payload).unwrap()).await;
    assert!(matches!(net.word().await, ToNet::Fetch { .. }));
    // The network side goes while it fetches the bundle.
    drop(net);
    net = Net::connect(&host.place).await;
    net.bring(|path| fs::write(path, &made.bundle).unwrap()).await;
    net.until("staged", |standing| standing.state == HostState::Staged).await;
    // Silence permits nothing.
    drop(net);
    host = Host::start(host.stop().await);
    assert_eq!(host.live(), None);
    net = Net::connect(&host.place).await;
    net.say(&welcome()).await;
    let_switch(&mut net).await;
    // Gone right after the switch, the apply side probes and commits alone.
    drop(net);
    host = Host::start(host.stop().await);
    assert_eq!(host.live(), Some(made.id));
    net = Net::connect(&host.place).await;
    net.until("committed", |standing| standing.state == HostState::Committed).await;
    host.stop().await;
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file in the spool belongs to somebody else, who goes on writing while it is read: what is staged is
/// what was hashed.
#[test]
fn a_file_that_changes_while_it_is_read_is_never_staged_wrong() {
    let place = place();
    let body = |fill: u8| vec![fill; 200_000];
    let files = |fill: u8| {
        let (a, b) = (body(fill), body(fill + 1));
        release(1, &[("a", &a), ("bin/shop", &b)], &[], |_| {})
    };
    let (made, other) = (files(1), files(7));
    assert_eq!(made.bundle.len(), other.bundle.len(), "so that it can be swapped in place");
    let path = place.layout.part(&Digest::of(&made.bundle));
    fs::write(&path, &made.bundle).unwrap();
    let over = AtomicBool::new(false);
    let trustee = fixture::loaded().trustee;
    let (mut staged, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            while !over.load(Ordering::Relaxed) {
                for bundle in [&other.bundle, &made.bundle] {
                    file.write_all_at(bundle, 0).unwrap();
                }
            }
        });
        // The writer must end even where an assertion fails.
        let _over = Over(&over);
        while staged + refused < 200 {
            let manifest =
                stage::verify_manifest(&made.payload, &made.proof, &shop(), &trustee).unwrap();
            let done = stage::unpack(Unpack {
                layout: &place.layout,
                service: &shop(),
                payload: &made.payload,
                proof: &made.proof,
                manifest,
                bundle: fs::File::open(&path).unwrap(),
                cancelled: &|| false,
            });
            let tree = place.layout.release(&shop(), &made.id).join("tree");
            if done.is_ok() {
                staged += 1;
                assert_eq!(fs::read(tree.join("a")).unwrap(), body(1));
                assert_eq!(fs::read(tree.join("bin/shop")).unwrap(), body(2));
                fs::remove_dir_all(tree.parent().unwrap()).unwrap();
            } else {
                refused += 1;
                assert!(!tree.exists(), "what is refused leaves nothing");
            }
        }
    });
    assert!(refused > 0, "the race was never lost: {staged} staged");
}

/// The network side itself, with an apply side that the test plays.
#[tokio::test]
async fn the_network_side_fetches_reports_its_losses_and_comes_back() {
    let place = place();
    let pair = rcgen::KeyPair::from_pem(&key(7).to_pem().unwrap()).unwrap();
    let params = rcgen::CertificateParams::new(vec!["host".to_owned()]).unwrap();
    let certificate = params.self_signed(&pair).unwrap().pem();
    fs::write(place.layout.host_certificate(), certificate).unwrap();
    fs::write(place.layout.host_key(), pair.serialize_pem()).unwrap();
    let (layout, socket) = (place.layout.clone(), place.socket.clone());
    let listener = UnixListener::bind(&place.socket).unwrap();
    let net =
        tokio::spawn(
            async move { super::net(layout, &socket, Live::fixed(fixture::settings())).await },
        );
    let loaded = fixture::loaded();
    let open = ToNet::Open(Open {
        name: loaded.identity.name,
        agents: loaded.identity.agents,
        api: loaded.identity.api,
        blobs: loaded.identity.blobs,
        root: loaded.root,
    });
    let accept = || async {
        let (stream, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        Framed::new(stream, "net")
    };
    // Whatever is no greeting, or no message after it: it hangs up and comes back.
    accept().await.send(&ToNet::Beat, SOON).await.unwrap();
    accept().await.send(&ToApply::Lost, SOON).await.unwrap();
    let mut framed = accept().await;
    framed.send(&open, SOON).await.unwrap();
    framed.send(&open, SOON).await.unwrap();
    while framed.recv::<ToApply>(SOON).await.is_ok_and(|said| said.is_some()) {}
    let mut framed = accept().await;
    framed.send(&open, SOON).await.unwrap();
    // The coordinator is not there.
    assert_eq!(framed.recv(SOON).await.unwrap(), Some(ToApply::Lost));
    // What lies whole in the spool is brought; for what does not there is no usable address.
    let digest = Digest::of(b"blob");
    fs::write(place.layout.part(&digest), b"blob").unwrap();
    let limit_bytes = 1_000;
    framed.send(&ToNet::Fetch { number: 1, digest, limit_bytes }, SOON).await.unwrap();
    assert_eq!(answer(&mut framed).await.unwrap(), (1, None));
    let other = Digest::of(b"other");
    framed.send(&ToNet::Fetch { number: 2, digest: other, limit_bytes }, SOON).await.unwrap();
    let (number, failure) = answer(&mut framed).await.unwrap();
    assert_eq!(number, 2);
    assert!(failure.unwrap().contains("want http://HOST:PORT"));
    framed.send(&ToNet::Discard(digest), SOON).await.unwrap();
    framed.send(&ToNet::Fetch { number: 3, digest, limit_bytes }, SOON).await.unwrap();
    assert!(answer(&mut framed).await.unwrap().1.is_some(), "it is gone");
    framed.send(&ToNet::Clear, SOON).await.unwrap();
    let gone = async {
        while place.layout.spool().exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.unwrap();
    net.abort();
}

/// The end of the next fetch.
async fn answer(framed: &mut Framed<UnixStream>) -> Result<(u64, Option<String>), NetError> {
    loop {
        if let Some(ToApply::Fetched { number, failure }) = framed.recv(SOON).await? {
            return Ok((number, failure));
        }
    }
}
