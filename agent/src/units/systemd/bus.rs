//! The connection to systemd over D-Bus: made when it is needed and anew when it broke; no call without a
//! bound. Tells what systemd itself answered from what never got there.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zbus::zvariant::DynamicType;
use zbus::{Connection, Message, OwnedObjectPath, OwnedVariant};

use super::UnitError;

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// What systemd says by itself has a name of this kind; anything else comes from the way to it.
const OWN_ERRORS: &str = "org.freedesktop.systemd1.";
/// The longest one call may take. Jobs are waited for apart from it.
const CALL: Duration = Duration::from_secs(10);
/// Reading all units again, which a host with thousands of them takes its time for.
const REREAD: Duration = Duration::from_secs(60);

/// The bus of one agent.
#[derive(Debug, Default)]
pub(super) struct Bus(Mutex<Option<Connection>>);

/// One unit that systemd has loaded, or has found not to be there.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    bus: Connection,
    path: OwnedObjectPath,
    pub(super) name: &'a str,
}

impl Bus {
    /// The connection, made anew when the last one broke.
    pub(super) async fn connection(&self) -> Result<Connection, UnitError> {
        let mut held = self.0.lock().await;
        if let Some(bus) = held.as_ref() {
            return Ok(bus.clone());
        }
        let late = || silent("reach", "systemd", CALL);
        let made = timeout(CALL, Connection::system()).await.map_err(|_| late())?;
        let bus = made.map_err(|source| error("reach", "systemd", source))?;
        // Without a subscription systemd sends no signals, and the end of a job goes unheard.
        call(&bus, ("Subscribe", "systemd"), &()).await?;
        *held = Some(bus.clone());
        Ok(bus)
    }

    /// The next call connects again.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }

    /// One call of systemd's manager; `verb` and `unit` are for people, too.
    pub(super) async fn ask<B: Serialize + DynamicType + Sync>(
        &self,
        what: (&'static str, &str),
        body: &B,
    ) -> Result<Message, UnitError> {
        let bus = self.connection().await?;
        self.heed(call(&bus, what, body).await).await
    }

    /// The unit with this name.
    pub(super) async fn unit<'a>(&self, name: &'a str) -> Result<Unit<'a>, UnitError> {
        let what = ("LoadUnit", name);
        let path = self.ask(what, &(name,)).await?;
        let path = path.body().deserialize().map_err(|source| error(what.0, name, source))?;
        Ok(Unit { bus: self.connection().await?, path, name })
    }

    /// When systemd itself began, which tells one run of the host from another.
    pub(super) async fn began(&self) -> Result<u64, UnitError> {
        self.heed(self.manager().await?.property(MANAGER, "UserspaceTimestamp").await).await
    }

    /// How the whole host stands: `running`, `degraded`, `stopping`, ...
    pub(super) async fn state(&self) -> Result<String, UnitError> {
        self.heed(self.manager().await?.property(MANAGER, "SystemState").await).await
    }

    async fn manager(&self) -> Result<Unit<'static>, UnitError> {
        let path = OwnedObjectPath::try_from(MANAGER_PATH);
        let path = path.map_err(|source| error("look at", "systemd", source))?;
        Ok(Unit { bus: self.connection().await?, path, name: "systemd" })
    }

    /// A connection that failed is not used again.
    pub(super) async fn heed<T>(&self, answer: Result<T, UnitError>) -> Result<T, UnitError> {
        if answer.as_ref().is_err_and(UnitError::is_of_the_bus) {
            self.forget().await;
        }
        answer
    }
}

impl Unit<'_> {
    /// A property of any unit.
    pub(super) async fn of_unit<T>(&self, name: &'static str) -> Result<T, UnitError>
    where
        T: TryFrom<OwnedVariant>,
    {
        self.property(UNIT, name).await
    }

    /// A property that services alone have.
    pub(super) async fn of_service<T>(&self, name: &'static str) -> Result<T, UnitError>
    where
        T: TryFrom<OwnedVariant>,
    {
        self.property(SERVICE, name).await
    }

    /// The number of the job that it has now; 0 for none.
    pub(super) async fn job(&self) -> Result<u32, UnitError> {
        let (number, _): (u32, OwnedObjectPath) = self.of_unit("Job").await?;
        Ok(number)
    }

    async fn property<T>(&self, interface: &str, name: &'static str) -> Result<T, UnitError>
    where
        T: TryFrom<OwnedVariant>,
    {
        let (path, body) = (&self.path, (interface, name));
        let call = self.bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &body);
        let answer = timeout(CALL, call).await.map_err(|_| silent(name, self.name, CALL))?;
        let answer = answer.map_err(|source| error(name, self.name, source))?;
        let value = answer.body().deserialize::<OwnedVariant>();
        let value = value.map_err(|source| error(name, self.name, source))?;
        let odd = || zbus::Error::IncorrectType;
        T::try_from(value).map_err(|_| error(name, self.name, odd()))
    }
}

async fn call<B: Serialize + DynamicType + Sync>(
    bus: &Connection,
    (verb, unit): (&'static str, &str),
    body: &B,
) -> Result<Message, UnitError> {
    let most = if verb == "Reload" { REREAD } else { CALL };
    let answer = bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), verb, body);
    let answered = timeout(most, answer).await.map_err(|_| silent(verb, unit, most))?;
    answered.map_err(|source| error(verb, unit, source))
}

fn silent(verb: &'static str, unit: &str, after: Duration) -> UnitError {
    UnitError::Silent { verb, unit: unit.to_owned(), secs: after.as_secs() }
}

/// What an error of the bus is: systemd's own word, or that of the way to it.
pub(super) fn error(verb: &'static str, unit: &str, source: zbus::Error) -> UnitError {
    let is_own = matches!(&source, zbus::Error::MethodError(name, _, _)
        if name.as_str().starts_with(OWN_ERRORS));
    let (unit, source) = (unit.to_owned(), Box::new(source));
    match is_own {
        true => UnitError::Answer { verb, unit, source },
        false => UnitError::Bus { verb, unit, source },
    }
}

/// Whether systemd says that it has no such unit.
pub(super) fn is_not_loaded(error: &UnitError) -> bool {
    let UnitError::Answer { source, .. } = error else { return false };
    matches!(source.as_ref(), zbus::Error::MethodError(name, _, _)
        if name.as_str().ends_with(".NoSuchUnit"))
}
