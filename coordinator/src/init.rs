//! Makes a state directory: keys, authority, first root, settings, the first entry of the ledger and the
//! admin's profile. Refuses a directory that has been used. Owns the layout of the state directory.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use groundswell_common::api::{OperatorRole, Profile};
use groundswell_common::trust::{
    Envelope, KeyError, PublicKey, RawRoot, Role, RoleEntry, Root, SecretKey,
};
use groundswell_common::{Digest, Fleet, OperatorName, Timestamp};
use zeroize::Zeroizing;

use crate::ca::{Authority, CaError};
use crate::config::{ConfigError, Fragment, Settings};
use crate::entry::{By, Entry, What};
use crate::files::{self, Access, FileError};
use crate::ledger::{LedgerError, Log};

/// Seconds that the first root is valid.
const ROOT_VALID_SECS: u64 = 365 * 86_400;

/// The state directory of the package.
const PACKAGED_STATE: &str = "/var/lib/groundswell-coordinator";

/// Names and numbers of users.
const USERS_FILE: &str = "/etc/passwd";

/// Paths in a state directory.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The state directory.
    pub state: PathBuf,
}

impl Layout {
    /// The layout of `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned() }
    }

    /// Private keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.state.join("keys")
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.state.join("ca.crt")
    }

    /// Root documents, `N.json`.
    #[must_use]
    pub fn roots(&self) -> PathBuf {
        self.state.join("root")
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.state.join("ledger")
    }

    /// The view's store.
    #[must_use]
    pub fn view(&self) -> PathBuf {
        self.state.join("view")
    }

    /// The depot.
    #[must_use]
    pub fn depot(&self) -> PathBuf {
        self.state.join("depot")
    }
}

/// What to make.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// The state directory.
    pub state: PathBuf,
    /// The fleet's name.
    pub fleet: Fleet,
    /// Names and addresses of the coordinator.
    pub hosts: Vec<String>,
    /// Listen address for agents.
    pub agents: Option<String>,
    /// Listen address of the API.
    pub api: Option<String>,
    /// Listen address for blobs.
    pub blobs: Option<String>,
    /// The first operator.
    pub admin: OperatorName,
}

/// Why no state directory can be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The directory holds a fleet already.
    #[error("make a fleet in {0}: there is one already; choose an empty directory")]
    Used(PathBuf),
    /// The directory is another user's, who could not read what is made there.
    #[error(
        "make a fleet in {dir}: it belongs to {owner}, and who types this is another; put 'sudo -u {owner}' before the \
         line"
    )]
    Owner {
        /// The directory.
        dir: PathBuf,
        /// Whose it is, by name where the system knows it.
        owner: String,
    },
    /// A file cannot be written.
    #[error("write the state directory")]
    File(#[source] FileError),
    /// The settings make no sense.
    #[error("check the settings")]
    Config(#[source] ConfigError),
    /// The settings have no TOML form.
    #[error("write the settings")]
    Toml(#[source] toml::ser::Error),
    /// No key can be made.
    #[error("make a key")]
    Key(#[source] KeyError),
    /// No random bytes.
    #[error("make a key: no random bytes from the system")]
    Random(#[source] getrandom::Error),
    /// No certificate can be made.
    #[error("make a certificate")]
    Ca(#[source] CaError),
    /// A document without a JSON form.
    #[error("write a document")]
    Json(#[source] serde_json::Error),
    /// The ledger cannot be begun.
    #[error("begin the ledger")]
    Ledger(#[source] LedgerError),
}

/// Who owns the directory, where that is not the user who runs this.
fn other_owner(dir: &Path) -> Option<String> {
    let owner = std::fs::metadata(dir).ok()?.uid();
    if owner == rustix::process::geteuid().as_raw() {
        return None;
    }
    let users = std::fs::read_to_string(USERS_FILE).unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(owner)).then(|| name.to_owned())
    });
    Some(named.unwrap_or_else(|| format!("#{owner}")))
}

/// Makes the state directory.
///
/// # Errors
/// [`InitError`]; a directory that was made in part can be removed and made again.
pub fn init(request: &InitRequest, now: Timestamp) -> Result<Settings, InitError> {
    let layout = Layout::new(&request.state);
    if layout.ledger().exists() || request.state.join("coordinator.toml").exists() {
        return Err(InitError::Used(request.state.clone()));
    }
    if let Some(owner) = other_owner(&request.state) {
        return Err(InitError::Owner { dir: request.state.clone(), owner });
    }
    let fragment = Fragment {
        fleet: Some(request.fleet.clone()),
        hosts: Some(request.hosts.clone()),
        agents: request.agents.clone(),
        api: request.api.clone(),
        blobs: request.blobs.clone(),
        ..Fragment::default()
    };
    let settings = fragment.clone().complete().map_err(InitError::Config)?;
    files::directory(&request.state, Access::Private).map_err(InitError::File)?;
    files::directory(&layout.keys(), Access::Private).map_err(InitError::File)?;
    files::directory(&layout.roots(), Access::Private).map_err(InitError::File)?;

    let authority_key = new_key(&layout, "ca")?;
    let pem = authority_key.to_pem().map_err(InitError::Key)?;
    let authority = Authority::load(&request.fleet, &pem).map_err(InitError::Ca)?;
    let certificate = authority.self_signed(now).map_err(InitError::Ca)?;
    files::write(&layout.ca(), certificate.pem.as_bytes(), Access::Public)
        .map_err(InitError::File)?;

    let root = first_root(&layout, &request.fleet, &certificate.der, now)?;
    files::write(&layout.roots().join("1.json"), &root.to_json(), Access::Public)
        .map_err(InitError::File)?;

    let admin_key = SecretKey::from_seed(&seed()?);
    begin_ledger(&layout, request, (root.digest(), admin_key.public()), now)?;
    let admin = NewProfile { settings: &settings, name: &request.admin, key: &admin_key };
    let profile = admin.profile(&authority, &certificate.pem, now)?;
    write_profile(&request.state.join("admin.profile"), &profile)?;

    // Last: a state directory with settings is a whole one.
    let text = toml::to_string(&fragment).map_err(InitError::Toml)?;
    files::write(&request.state.join("coordinator.toml"), text.as_bytes(), Access::Public)
        .map_err(InitError::File)?;
    Ok(settings)
}

/// What a new operator's profile is made from.
#[derive(Debug)]
pub struct NewProfile<'a> {
    /// Where the coordinator is.
    pub settings: &'a Settings,
    /// Who.
    pub name: &'a OperatorName,
    /// Their key.
    pub key: &'a SecretKey,
}

impl NewProfile<'_> {
    /// The profile, with a new certificate.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn profile(
        &self,
        authority: &Authority,
        ca_pem: &str,
        now: Timestamp,
    ) -> Result<Profile, InitError> {
        let settings = self.settings;
        let certificate_pem =
            authority.operator(self.name, &self.key.public(), now).map_err(InitError::Ca)?;
        let blobs = format!("http://{}", advertised(settings.host(), &settings.blobs));
        Ok(Profile {
            api: advertised(settings.host(), &settings.api),
            blobs: Some(settings.blobs_url.clone().unwrap_or(blobs)),
            ca_pem: ca_pem.to_owned(),
            name: self.name.clone(),
            certificate_pem,
            key_pem: self.key.to_pem().map_err(InitError::Key)?.to_string(),
        })
    }
}

/// `HOST:PORT` for people and agents, the port being that of a listen address.
#[must_use]
pub fn advertised(host: &str, listen: &str) -> String {
    let port = listen.rsplit_once(':').map_or(listen, |(_, port)| port);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Writes a profile, private.
///
/// # Errors
/// [`InitError`].
pub fn write_profile(path: &Path, profile: &Profile) -> Result<(), InitError> {
    let mut bytes = serde_json::to_vec_pretty(profile).map_err(InitError::Json)?;
    bytes.push(b'\n');
    files::write(path, &bytes, Access::Private).map_err(InitError::File)
}

/// What to type after `init`: of the package's state directory its unit is started, of another one a process.
#[must_use]
pub fn next_steps(state: &Path) -> String {
    let shown = state.display();
    if state == Path::new(PACKAGED_STATE) {
        return format!(
            "next: sudo systemctl start groundswell-coordinator\n\
             then: mkdir -p ~/.config/groundswell\n\
             \x20     sudo install -m 600 -o \"$USER\" {shown}/admin.profile \
             ~/.config/groundswell/profile.json\n\
             \x20     swell status"
        );
    }
    format!(
        "next: groundswell-coordinator serve --state {shown}\n\
         then: swell --profile {shown}/admin.profile status"
    )
}

/// 32 random bytes.
///
/// # Errors
/// [`InitError::Random`].
pub fn seed() -> Result<Zeroizing<[u8; 32]>, InitError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(InitError::Random)?;
    Ok(seed)
}

fn new_key(layout: &Layout, name: &str) -> Result<SecretKey, InitError> {
    let key = SecretKey::from_seed(&seed()?);
    let pem = key.to_pem().map_err(InitError::Key)?;
    let path = layout.keys().join(format!("{name}.pem"));
    files::write(&path, pem.as_bytes(), Access::Private).map_err(InitError::File)?;
    Ok(key)
}

fn first_root(
    layout: &Layout,
    fleet: &Fleet,
    ca_der: &[u8],
    now: Timestamp,
) -> Result<Envelope, InitError> {
    let root_key = new_key(layout, "root")?;
    let release_key = new_key(layout, "release")?;
    let director_key = new_key(layout, "director")?;
    let role = |role, key: &SecretKey| RoleEntry {
        role,
        service: None,
        environment: None,
        threshold: 1,
        keys: vec![key.public()],
    };
    let raw = RawRoot {
        version: 1,
        fleet: fleet.clone(),
        expires: now.as_secs() + ROOT_VALID_SECS,
        tls_ca: vec![STANDARD.encode(ca_der)],
        roles: vec![
            role(Role::Root, &root_key),
            role(Role::Release, &release_key),
            role(Role::Director, &director_key),
        ],
        units: vec![],
        revoked_hosts: vec![],
    };
    let payload = serde_json::to_vec(&raw).map_err(InitError::Json)?;
    Ok(Envelope::new::<Root>(payload).signed_by(&root_key))
}

fn begin_ledger(
    layout: &Layout,
    request: &InitRequest,
    (root, admin): (Digest, PublicKey),
    now: Timestamp,
) -> Result<(), InitError> {
    let whats = [
        What::Initialised { fleet: request.fleet.clone(), root },
        What::OperatorPut { name: request.admin.clone(), role: OperatorRole::Admin, key: admin },
    ];
    let mut payloads = Vec::new();
    for (what, seq) in whats.into_iter().zip(1..) {
        let entry = Entry { seq, at: now, by: By::Coordinator, what };
        payloads.push(entry.to_payload().map_err(InitError::Json)?);
    }
    let mut log = Log::open(&layout.ledger(), &mut |_| {}).map_err(InitError::Ledger)?;
    log.append(&payloads).map(drop).map_err(InitError::Ledger)
}
