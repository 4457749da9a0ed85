//! The composition root: the only place where adapters are built, and drained.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use groundswell_common::trust::{ADDRESSES_MAX, Envelope, Root, Verified};
use groundswell_common::{Clock, Timestamp};
use groundswell_net::Notify;
use groundswell_net::tls::{ClientAuth, knowing_all, server_config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{Addresses, Api, Parts, router};
use crate::blobs;
use crate::ca::{Authority, SERVER_DAYS};
use crate::config::Settings;
use crate::depot::Depot;
use crate::driver::{AboutProcess, Desk, Driver, DriverParts, Handle};
use crate::files;
use crate::init::{Layout, advertised};
use crate::ledger::{Ledger, Reader};
use crate::listen::{self, Door, STRANGERS_MAX};
use crate::recover::{Recovered, recover};
use crate::renew;
use crate::sessions::Shared;
use crate::signer::Signer;
use crate::store::Writer;
use crate::webhooks::{self, Caller};

/// Descriptors that files, the store and the listeners need beside connections.
const DESCRIPTORS_KEPT: usize = 256;
const DAY_SECS: u64 = 86_400;

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 reads as 1970: certificates and roots then refuse by themselves.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Addresses that the process listens on.
#[derive(Clone, Debug)]
pub struct Listening {
    /// For agents.
    pub agents: String,
    /// The API.
    pub api: String,
    /// Blobs.
    pub blobs: String,
}

struct Listeners {
    agents: TcpListener,
    api: TcpListener,
    blobs: TcpListener,
}

/// What the state directory holds besides ledger and view.
struct Keys {
    authority: Authority,
    signer: Signer,
    roots: Vec<Envelope>,
    root: Verified<Root>,
}

/// Serves the fleet in `state` until `stop` is told. `ready` is called once all listeners are open.
///
/// # Errors
/// Whatever keeps it from starting, with what to do.
pub async fn serve(
    (state, settings): (&Path, &Settings),
    notify: &Notify,
    stop: watch::Receiver<bool>,
    ready: impl FnOnce(&Listening),
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let layout = Layout::new(state);
    let agents_max = agents_that_fit(settings)?;
    let keys = load_keys(&layout, settings)?;
    let depot = Depot::open(&layout.depot()).context("failed to open the depot")?;
    let root_bytes = keys.roots.last().context("failed to find a root document")?.to_json();
    let root_blob = depot.put_bytes(root_bytes).await.context("failed to keep the root")?;
    let recovered = recover(&layout, clock.now()).context("failed to start")?;
    let listeners = bind(settings).await?;
    let listening = listeners.addresses(settings)?;

    let (driver, handle, reader) = driver(recovered, (settings, &keys), &clock)?;
    let running = tokio::spawn(driver.run(stop.clone()));
    let tls = tls(&keys, settings, clock.now())?;
    let shared = Arc::new(shared((settings, &keys, &listening), &handle, (&clock, &stop)));
    let about = AboutProcess {
        fleet: settings.fleet.clone(),
        started: clock.now(),
        root_version: keys.root.version,
        root_expires: keys.root.expires,
        server_ends: clock.now().plus_secs(SERVER_DAYS.unsigned_abs() * DAY_SECS),
        state: state.to_owned(),
    };
    let [agents_told, api_told] = told(settings, &listening);
    let tell = move |desk: &mut Desk| desk.tell_addresses(agents_told, api_told);
    handle.change(tell).await?.context("failed to keep the addresses")?;
    tokio::spawn(say_what_ends(handle.clone(), about.clone()));
    let addresses = Addresses {
        agents: listening.agents.clone(),
        api: listening.api.clone(),
        blobs: shared.blobs.clone(),
    };
    let caller = Caller {
        ca: settings.webhook_ca.clone(),
        again: Duration::from_secs(settings.webhook_again_secs),
    };
    tokio::spawn(webhooks::run(handle.clone(), caller, stop.clone()));
    let Keys { authority, signer, root, .. } = keys;
    let api = Api::new(Parts {
        handle,
        depot: depot.clone(),
        signer,
        authority,
        reader,
        clock,
        about,
        root,
        root_blob,
        addresses,
    });
    let door = |name, listener, places| Door::new(name, listener, places, stop.clone());
    let [agents_tls, api_tls] = tls;
    let agents = door("agents", listeners.agents, agents_max);
    tokio::spawn(listen::agents(agents, agents_tls, shared));
    let people = door("api", listeners.api, settings.api_connections_max);
    tokio::spawn(listen::api(people, api_tls, router(&api)));
    let caches = door("blobs", listeners.blobs, settings.blob_connections_max);
    tokio::spawn(listen::blobs(caches, blobs::router(depot)));

    ready(&listening);
    if let Err(error) = notify.send("READY=1") {
        tracing::warn!(%error, "cannot reach the service manager");
    }
    running.await.context("failed to run the driver")?.context("failed to keep the ledger")
}

/// Raises the soft limit of descriptors to the hard one, and refuses settings that it cannot hold. The number of
/// agents for whom there are descriptors beside everyone else's.
fn agents_that_fit(settings: &Settings) -> anyhow::Result<usize> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("failed to raise the limit of open files")?;
    let most = maximum.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let people = settings.api_connections_max + settings.blob_connections_max;
    let people = people + 2 * STRANGERS_MAX + DESCRIPTORS_KEPT;
    if settings.agents_max > most.saturating_sub(people) {
        tracing::warn!(
            limit = most,
            agents = most.saturating_sub(people),
            wanted = settings.agents_max,
            "the limit of open files holds fewer agents than agents_max; raise LimitNOFILE"
        );
    }
    anyhow::ensure!(
        people < most,
        "failed to start: api_connections_max, blob_connections_max and what is kept for strangers and files need \
         {people} open files, the limit is {most}; lower them or raise the limit (LimitNOFILE in the unit)"
    );
    Ok(settings.agents_max.min(most - people))
}

fn load_keys(layout: &Layout, settings: &Settings) -> anyhow::Result<Keys> {
    let signer = Signer::load(&layout.keys()).context("failed to load the signing keys")?;
    let pem = files::read_private(&layout.keys().join("ca.pem"))
        .context("failed to load the authority's key")?;
    let authority =
        Authority::load(&settings.fleet, &pem).context("failed to load the authority")?;
    let (roots, root) = renew::roots(layout).context("failed to trust the roots")?;
    Ok(Keys { authority, signer, roots, root })
}

async fn bind(settings: &Settings) -> anyhow::Result<Listeners> {
    let open = async |name: &str, address: &str| {
        TcpListener::bind(address).await.with_context(|| {
            format!("failed to listen on {address} for {name}; is another process there?")
        })
    };
    Ok(Listeners {
        agents: open("agents", &settings.agents).await?,
        api: open("the API", &settings.api).await?,
        blobs: open("blobs", &settings.blobs).await?,
    })
}

/// What hosts are told: every name with the ports that are open, then where the coordinator moves to.
fn told(settings: &Settings, listening: &Listening) -> [Vec<String>; 2] {
    [(&listening.agents, &settings.next_agents), (&listening.api, &settings.next_api)].map(
        |(open, next)| {
            let names = settings.hosts.iter().map(|host| advertised(host, open));
            names.take(ADDRESSES_MAX - 1).chain(next.clone()).collect()
        },
    )
}

/// Says in the log what ends soon: at the start, then once a day.
async fn say_what_ends(handle: Handle, about: AboutProcess) {
    loop {
        let about = about.clone();
        let Ok(ends) = handle.query(move |desk| desk.ends(&about)).await else { return };
        for what in ends {
            tracing::warn!("{what}");
        }
        tokio::time::sleep(Duration::from_secs(DAY_SECS)).await;
    }
}

impl Listeners {
    /// Addresses that others can use: the coordinator's first name, the port that is really open.
    fn addresses(&self, settings: &Settings) -> anyhow::Result<Listening> {
        let address = |listener: &TcpListener| -> anyhow::Result<String> {
            let local = listener.local_addr().context("failed to learn the own address")?;
            Ok(advertised(settings.host(), &local.to_string()))
        };
        Ok(Listening {
            agents: address(&self.agents)?,
            api: address(&self.api)?,
            blobs: address(&self.blobs)?,
        })
    }
}

fn driver(
    recovered: Recovered,
    (settings, keys): (&Settings, &Keys),
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Driver, Handle, Reader)> {
    let ledger = Ledger::start(recovered.log).context("failed to start the ledger's thread")?;
    let writer = Writer::start(recovered.store).context("failed to start the view's thread")?;
    let reader = ledger.reader();
    let (driver, handle) = Driver::new(DriverParts {
        view: recovered.view,
        ledger,
        writer,
        clock: Arc::clone(clock),
        root_version: keys.root.version,
        settle: Duration::from_millis(settings.backoff_cap_ms),
    });
    Ok((driver, handle, reader))
}

/// Configurations for agents (certificate required) and people (optional), one certificate for both.
fn tls(
    keys: &Keys,
    settings: &Settings,
    now: Timestamp,
) -> anyhow::Result<[Arc<groundswell_net::tls::ServerConfig>; 2]> {
    let (chain, key) = keys
        .authority
        .server(&settings.hosts, now)
        .context("failed to make the coordinator's certificate")?;
    let config = |clients| {
        server_config(keys.root.tls_ca(), &chain, &key, clients).context("failed to set up TLS")
    };
    Ok([knowing_all(&*config(ClientAuth::Required)?), config(ClientAuth::Optional)?])
}

fn shared(
    (settings, keys, listening): (&Settings, &Keys, &Listening),
    handle: &Handle,
    (clock, stop): (&Arc<dyn Clock>, &watch::Receiver<bool>),
) -> Shared {
    let own = format!("http://{}", listening.blobs);
    Shared {
        handle: handle.clone(),
        signer: keys.signer.clone(),
        fleet: settings.fleet.clone(),
        roots: keys.roots.clone(),
        blobs: settings.blobs_url.clone().unwrap_or(own),
        heartbeat_secs: settings.heartbeat_secs,
        backoff: settings.backoff(),
        clock: Arc::clone(clock),
        sessions: AtomicU64::new(1),
        stop: stop.clone(),
    }
}
