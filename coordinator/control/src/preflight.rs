//! What hosts lack for a release, from what they say of themselves, before anything is planned or sent.

use groundswell_common::condition::{Condition, Lack, ServiceCondition, UnitLoad};
use groundswell_common::{HostId, HostName};

use crate::control::Control;
use crate::entry::Published;

impl Control {
    /// What a host lacks now for a release, with the cause and the next step; `None` where nothing is known to be
    /// missing. An agent that does not say what it has lacks nothing that is known.
    pub(crate) fn lacks(&self, id: &HostId, release: &Published) -> Option<(Lack, String)> {
        if let Some(kept_out) = self.kept_out(id) {
            return Some(kept_out);
        }
        let condition = self.words.get(id)?.condition.as_ref()?;
        paused(condition, release)
            .or_else(|| platform(condition, release))
            .or_else(|| units(condition, release))
            .or_else(|| room(condition, release))
    }
}

/// What a host lacks, with the next step. Of a drained host the reason alone is kept, as the operator wrote it.
pub(crate) fn said(name: &HostName, (lack, why): (Lack, &str)) -> String {
    if lack == Lack::Drained {
        return format!(
            "an operator drained it: {why}; 'swell host undrain {name}' lets it in again"
        );
    }
    why.to_owned()
}

fn paused(condition: &Condition, release: &Published) -> Option<(Lack, String)> {
    let service = condition.services.iter().find(|found| found.service == release.service)?;
    Some((Lack::Paused, paused_by_owner(service)?))
}

/// What holds a service that its owner paused, and how that ends: the agent tells one pause of both only.
pub(crate) fn paused_by_owner(service: &ServiceCondition) -> Option<String> {
    let why = service.paused.as_ref()?;
    let name = &service.service;
    Some(format!(
        "its owner paused it: {why}; 'groundswell-agent resume {name}' there ends a pause of it alone, \
         'groundswell-agent resume' one of the host"
    ))
}

fn platform(condition: &Condition, release: &Published) -> Option<(Lack, String)> {
    let any = matches!(release.platform.as_str(), "" | "any");
    (!any && !condition.platform.is_empty() && condition.platform != release.platform).then(|| {
        let (has, wants) = (&condition.platform, &release.platform);
        (Lack::Platform, format!("it is {has} and the release is for {wants}; leave it out"))
    })
}

/// Units that the owner does not allow, or that could not be started.
fn units(condition: &Condition, release: &Published) -> Option<(Lack, String)> {
    let service = condition.services.iter().find(|found| found.service == release.service);
    // Under a supervisor that starts no units, and by agents that do not say, none are listed.
    let lists = condition.services.iter().any(|service| !service.units.is_empty());
    let allowed = service.map(|service| service.units.as_slice()).unwrap_or_default();
    release.units.iter().find_map(|unit| {
        let Some(found) = allowed.iter().find(|found| found.unit == *unit) else {
            return lists.then(|| (Lack::UnitNotAllowed, not_allowed(unit, release)));
        };
        let cannot = match found.load {
            UnitLoad::Loaded | UnitLoad::NeedsReload => return None,
            UnitLoad::NotFound => "is not there; install it, then 'systemctl daemon-reload'",
            UnitLoad::Masked => "is masked; 'systemctl unmask' it",
            UnitLoad::Faulty => "cannot be read by systemd; see 'systemctl status'",
        };
        Some((Lack::UnitNotLoaded, format!("unit {unit} {cannot}")))
    })
}

fn not_allowed(unit: &str, release: &Published) -> String {
    let service = &release.service;
    format!(
        "unit {unit} is not allowed there; add it to units of [services.{service}] in \
         /etc/groundswell/agent.toml"
    )
}

/// Whether the files of the release fit; the bundle and what the host keeps free come on top and are counted there.
/// How much is free now stands on the page of the host: what a plan says must not change by the minute.
fn room(condition: &Condition, release: &Published) -> Option<(Lack, String)> {
    let (bytes, files) = (release.bytes, release.files);
    if condition.free_bytes < bytes {
        let why = format!("the release has {bytes} bytes and fewer are free there; make room");
        return Some((Lack::Room, why));
    }
    (condition.free_inodes < files).then(|| {
        let why =
            format!("the release has {files} files and fewer inodes are free there; make room");
        (Lack::Inodes, why)
    })
}
