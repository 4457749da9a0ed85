//! From a TOML text to a policy: keys, defaults, bounds. Owns where each value stood in the text.

use groundswell_common::Environment;
use groundswell_common::api::OperatorRole;
use groundswell_common::name::NameError;
use groundswell_common::selector::Selector;
use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::fault::{PolicyError, PolicyFault};
use super::values::{
    ABSENT_AFTER_MAX_SECS, APPROVALS_PER_GATE_MAX, Amount, COUNT_MAX, DomainPolicy,
    ENVIRONMENTS_MAX, EvidencePolicy, FREEZES_MAX, Gate, HOST_BAKE_MAX_SECS, OnBreach, Order,
    POLICY_MAX_BYTES, POLICY_VERSION, PROBE_MAX_SECS, PROMOTE_AFTER_SECS, Policy, QUARANTINE_MAX,
    Short, Take, WAVE_WAIT_MAX_SECS, WAVES_MAX, WEBHOOK_MAX_BYTES, WINDOWS_MAX, WavePolicy,
    WhenNewer,
};
use crate::calendar::{DAYS, Freeze, WINDOW_MAX_MINUTES, Window, moment, zone_exists};

/// The key of sections.
const ENVIRONMENT: &str = "environment";
/// Roles whose persons may approve.
const MAY_APPROVE: [OperatorRole; 2] = [OperatorRole::Admin, OperatorRole::Approver];

impl Policy {
    /// Reads a policy for its first environment. `docs/policy.md` lists the keys with their defaults.
    ///
    /// # Errors
    /// [`PolicyError`] with the line and what to write instead.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        Self::each_from_toml(text).map(|(first, _)| first)
    }

    /// Reads a policy: the first of its environments, and those behind it in order.
    ///
    /// # Errors
    /// As [`Policy::from_toml`].
    pub fn each_from_toml(text: &str) -> Result<(Self, Vec<Self>), PolicyError> {
        if text.len() > POLICY_MAX_BYTES {
            return Err(PolicyError::TooLarge { bytes: text.len() });
        }
        let reader = Reader { text };
        let top = DeTable::parse(text).map_err(|source| reader.toml(source))?;
        let (span, mut top) = (top.span(), top.into_inner());
        let Some(sections) = top.remove(ENVIRONMENT) else {
            return Ok((reader.table(Spanned::new(span, top), None)?, Vec::new()));
        };
        let at = sections.span().start;
        let mut policies: Vec<Self> = Vec::new();
        for section in reader.sections(sections)? {
            let policy = reader.section(&top, section)?;
            if policies.iter().any(|before| before.environment == policy.environment) {
                return Err(
                    reader.rule(at, PolicyFault::TwinEnvironments(policy.environment_or_default()))
                );
            }
            policies.push(policy);
        }
        let mut policies = policies.into_iter();
        let first = policies.next().ok_or_else(|| reader.rule(at, PolicyFault::Environments))?;
        Ok((first, policies.collect()))
    }

    /// The waves of a policy that names none: one host, a quarter, everyone.
    #[must_use]
    pub fn default_waves() -> Vec<WavePolicy> {
        let takes =
            [("canary", Take::Count(1)), ("quarter", Take::Percent(25)), ("rest", Take::Rest)];
        let wave = |(name, take): (&str, Take)| {
            Some(WavePolicy {
                name: name.parse().ok()?,
                take,
                gate: Gate::default(),
                bake_secs: None,
                min_healthy: None,
                max_in_flight: None,
                failure_budget: None,
                optional: false,
            })
        };
        takes.into_iter().filter_map(wave).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    version: Option<Spanned<u64>>,
    service: Spanned<String>,
    targets: Spanned<String>,
    auto: Option<bool>,
    max_in_flight: Option<Spanned<Value>>,
    failure_budget: Option<Spanned<Value>>,
    held_budget: Option<Spanned<Value>>,
    rollout_budget: Option<Spanned<Value>>,
    on_breach: Option<OnBreach>,
    order: Option<Order>,
    weight_label: Option<Spanned<String>>,
    min_healthy: Option<Spanned<Value>>,
    failure_domain: Option<RawDomain>,
    quorum_label: Option<Spanned<String>>,
    #[serde(default)]
    window: Vec<Spanned<RawWindow>>,
    #[serde(default)]
    freeze: Vec<Spanned<RawFreeze>>,
    webhook: Option<Spanned<String>>,
    prefetch: Option<bool>,
    straggler_max_in_flight: Option<Spanned<Value>>,
    straggler_budget: Option<Spanned<Value>>,
    quarantine_after: Option<Spanned<u64>>,
    evidence: Option<RawEvidence>,
    bake_secs: Option<Spanned<u64>>,
    host_bake_secs: Option<Spanned<u64>>,
    probe_deadline_secs: Option<Spanned<u64>>,
    probe_interval_secs: Option<Spanned<u64>>,
    confirm_by_contact: Option<bool>,
    promote_after_secs: Option<Spanned<u64>>,
    progress_deadline_secs: Option<Spanned<u64>>,
    absent_after_secs: Option<Spanned<u64>>,
    when_newer: Option<WhenNewer>,
    #[serde(default)]
    wave: Vec<Spanned<RawWave>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWave {
    name: Option<Spanned<String>>,
    count: Option<Spanned<u64>>,
    percent: Option<Spanned<u64>>,
    selector: Option<Spanned<String>>,
    rest: Option<Spanned<bool>>,
    gate: Option<Spanned<Value>>,
    approvals: Option<Spanned<u64>>,
    four_eyes: Option<Spanned<bool>>,
    approver_role: Option<Spanned<OperatorRole>>,
    min_healthy: Option<Spanned<Value>>,
    bake_secs: Option<Spanned<u64>>,
    max_in_flight: Option<Spanned<Value>>,
    failure_budget: Option<Spanned<Value>>,
    optional: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDomain {
    label: Spanned<String>,
    at_once: Option<Spanned<u64>>,
    min_healthy: Option<Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    days: Option<Spanned<Value>>,
    start: Spanned<String>,
    minutes: Spanned<u64>,
    zone: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFreeze {
    from: Spanned<String>,
    until: Spanned<String>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvidence {
    host_secs: Option<Spanned<u64>>,
    hosts: Option<Spanned<u64>>,
    short: Option<Short>,
}

/// Turns the raw values of one text into a policy and knows where each stood.
struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    /// The sections of a text, in order.
    fn sections(
        &self,
        sections: Spanned<DeValue<'a>>,
    ) -> Result<Vec<Spanned<DeTable<'a>>>, PolicyError> {
        let at = sections.span().start;
        let fault = || self.rule(at, PolicyFault::Environments);
        let DeValue::Array(sections) = sections.into_inner() else { return Err(fault()) };
        if sections.len() > ENVIRONMENTS_MAX {
            let fault = PolicyFault::TooMany { key: "[[environment]]", max: ENVIRONMENTS_MAX };
            return Err(self.rule(at, fault));
        }
        let table = |section: Spanned<DeValue<'a>>| match (section.span(), section.into_inner()) {
            (span, DeValue::Table(table)) => Ok(Spanned::new(span, table)),
            (_, _) => Err(fault()),
        };
        sections.into_iter().map(table).collect()
    }

    /// The policy of one section: the keys of the top, and over them its own.
    fn section(
        &self,
        top: &DeTable<'a>,
        section: Spanned<DeTable<'a>>,
    ) -> Result<Policy, PolicyError> {
        let (span, mut section) = (section.span(), section.into_inner());
        let name = section.remove("name");
        let name = name.as_ref().and_then(|name| Some((name.get_ref().as_str()?, name.span())));
        let (name, at) = name.ok_or_else(|| self.rule(span.start, PolicyFault::Environments))?;
        let environment = self.parse_name(name, at.start)?;
        for key in ["service", "version"] {
            if let Some(value) = section.get(key) {
                return Err(self.rule(value.span().start, PolicyFault::OfTheService(key)));
            }
        }
        let mut merged = top.clone();
        for (key, value) in section {
            // Its own key, so that an error names the line in the section.
            merged.remove(key.get_ref().as_ref());
            merged.insert(key, value);
        }
        self.table(Spanned::new(span, merged), Some(environment))
    }

    fn table(
        &self,
        table: Spanned<DeTable<'a>>,
        environment: Option<Environment>,
    ) -> Result<Policy, PolicyError> {
        let raw = RawPolicy::deserialize(toml::Deserializer::from(table));
        let policy = self.policy(raw.map_err(|source| self.toml(source))?)?;
        Ok(Policy { environment, ..policy })
    }

    fn toml(&self, source: toml::de::Error) -> PolicyError {
        PolicyError::Toml {
            line: line_of(self.text, source.span().map_or(0, |span| span.start)),
            source: Box::new(source),
        }
    }

    fn policy(&self, raw: RawPolicy) -> Result<Policy, PolicyError> {
        if let Some(version) = raw.version.filter(|version| *version.get_ref() != POLICY_VERSION) {
            let fault = PolicyFault::Version(*version.get_ref());
            return Err(self.rule(version.span().start, fault));
        }
        let flight = self
            .flight("max_in_flight", raw.max_in_flight.as_ref())?
            .unwrap_or(Amount::Percent(10));
        let budget = self.amount("failure_budget", raw.failure_budget.as_ref())?;
        let policy = Policy {
            service: self.name(&raw.service)?,
            environment: None,
            promote_after_secs: self.number(
                "promote_after_secs",
                raw.promote_after_secs,
                (PROMOTE_AFTER_SECS, 0, WAVE_WAIT_MAX_SECS),
            )?,
            targets: self.targets(&raw.targets)?,
            auto: raw.auto.unwrap_or(true),
            max_in_flight: flight,
            failure_budget: budget.unwrap_or(Amount::Count(0)),
            held_budget: self.amount("held_budget", raw.held_budget.as_ref())?,
            rollout_budget: self.amount("rollout_budget", raw.rollout_budget.as_ref())?,
            on_breach: raw.on_breach.unwrap_or(OnBreach::RevertAll),
            order: raw.order.unwrap_or(Order::Seeded),
            weight_label: raw.weight_label.map(|label| self.name(&label)).transpose()?,
            min_healthy: self.amount("min_healthy", raw.min_healthy.as_ref())?,
            domain: raw.failure_domain.map(|domain| self.domain(&domain)).transpose()?,
            quorum_label: raw.quorum_label.map(|label| self.name(&label)).transpose()?,
            windows: self.windows(&raw.window)?,
            freezes: self.freezes(&raw.freeze)?,
            webhook: raw.webhook.map(|webhook| self.webhook(&webhook)).transpose()?,
            prefetch: raw.prefetch.unwrap_or(false),
            straggler_max_in_flight: self
                .flight("straggler_max_in_flight", raw.straggler_max_in_flight.as_ref())?
                .unwrap_or(flight),
            straggler_budget: self
                .amount("straggler_budget", raw.straggler_budget.as_ref())?
                .or(budget)
                .unwrap_or(Amount::Count(0)),
            quarantine_after: self.count(
                "quarantine_after",
                raw.quarantine_after,
                (0, 0, QUARANTINE_MAX),
            )?,
            evidence: self.evidence(raw.evidence)?,
            bake_secs: self.number("bake_secs", raw.bake_secs, (60, 0, WAVE_WAIT_MAX_SECS))?,
            host_bake_secs: self.number(
                "host_bake_secs",
                raw.host_bake_secs,
                (10, 0, HOST_BAKE_MAX_SECS),
            )?,
            probe_deadline_secs: self.number(
                "probe_deadline_secs",
                raw.probe_deadline_secs,
                (60, 1, PROBE_MAX_SECS),
            )?,
            probe_interval_secs: self.number(
                "probe_interval_secs",
                raw.probe_interval_secs,
                (1, 1, PROBE_MAX_SECS),
            )?,
            confirm_by_contact: raw.confirm_by_contact.unwrap_or(false),
            progress_deadline_secs: self.number(
                "progress_deadline_secs",
                raw.progress_deadline_secs.clone(),
                (600, 1, WAVE_WAIT_MAX_SECS),
            )?,
            absent_after_secs: self.number(
                "absent_after_secs",
                raw.absent_after_secs,
                (30, 1, ABSENT_AFTER_MAX_SECS),
            )?,
            when_newer: raw.when_newer.unwrap_or(WhenNewer::Supersede),
            waves: self.waves(&raw.wave)?,
        };
        let asks = policy.waves.iter().zip(&raw.wave).find(|(wave, _)| wave.gate.webhook);
        if let Some((_, wave)) = asks.filter(|_| policy.webhook.is_none()) {
            return Err(self.rule(wave.span().start, PolicyFault::WebhookMissing));
        }
        let one_host = policy.probe_deadline_secs + policy.host_bake_secs;
        if policy.progress_deadline_secs <= one_host {
            let at = raw.progress_deadline_secs.map_or(0, |value| value.span().start);
            return Err(self.rule(at, PolicyFault::Progress(one_host)));
        }
        Ok(policy)
    }

    fn waves(&self, raw: &[Spanned<RawWave>]) -> Result<Vec<WavePolicy>, PolicyError> {
        let Some(last) = raw.last() else { return Ok(Policy::default_waves()) };
        if raw.len() > WAVES_MAX {
            return Err(self.rule(last.span().start, PolicyFault::TooManyWaves));
        }
        let mut waves: Vec<WavePolicy> = Vec::with_capacity(raw.len());
        for (at, spanned) in raw.iter().enumerate() {
            let wave = self.wave(at, spanned)?;
            let start = spanned.span().start;
            if waves.iter().any(|before| takes_all(&before.take)) {
                return Err(self.rule(start, PolicyFault::AfterTheRest));
            }
            if waves.iter().any(|before| before.name == wave.name) {
                return Err(self.rule(start, PolicyFault::TwinWaves(wave.name)));
            }
            let before = waves.iter().rev().find_map(|wave| percent_of(&wave.take));
            if let (Some(before), Some(percent)) = (before, percent_of(&wave.take))
                && percent <= before
            {
                return Err(self.rule(start, PolicyFault::PercentShrinks(before)));
            }
            waves.push(wave);
        }
        if !waves.last().is_some_and(|wave| takes_all(&wave.take)) {
            return Err(self.rule(last.span().start, PolicyFault::HostsLeft));
        }
        Ok(waves)
    }

    fn wave(&self, at: usize, spanned: &Spanned<RawWave>) -> Result<WavePolicy, PolicyError> {
        let (start, raw) = (spanned.span().start, spanned.get_ref());
        let name = match &raw.name {
            Some(name) => self.name(name)?,
            None => self.parse_name(&format!("wave-{}", at + 1), start)?,
        };
        let bake = raw.bake_secs.clone();
        Ok(WavePolicy {
            name,
            take: self.take(start, raw)?,
            gate: self.gate(raw)?,
            min_healthy: self.amount("min_healthy", raw.min_healthy.as_ref())?,
            bake_secs: bake
                .map(|value| self.number("bake_secs", Some(value), (0, 0, WAVE_WAIT_MAX_SECS)))
                .transpose()?,
            max_in_flight: self.flight("max_in_flight", raw.max_in_flight.as_ref())?,
            failure_budget: self.amount("failure_budget", raw.failure_budget.as_ref())?,
            optional: raw.optional.unwrap_or(false),
        })
    }

    fn take(&self, start: usize, raw: &RawWave) -> Result<Take, PolicyError> {
        let rest = raw.rest.as_ref().is_some_and(|rest| *rest.get_ref());
        match (&raw.count, &raw.percent, &raw.selector, rest) {
            (Some(count), None, None, false) => {
                let max = u64::from(COUNT_MAX);
                Ok(Take::Count(self.count("count", Some(count.clone()), (1, 1, max))?))
            }
            (None, Some(percent), None, false) => {
                let percent = self.number("percent", Some(percent.clone()), (1, 1, 100))?;
                Ok(Take::Percent(u8::try_from(percent).unwrap_or(100)))
            }
            (None, None, Some(selector), false) => {
                let at = selector.span().start;
                self.selector(selector.get_ref(), at).map(Take::Selector)
            }
            (None, None, None, true) => Ok(Take::Rest),
            (_, _, _, _) => Err(self.rule(start, PolicyFault::Take)),
        }
    }

    fn gate(&self, raw: &RawWave) -> Result<Gate, PolicyError> {
        let mut gate = Gate::default();
        let words: Vec<&str> = match raw.gate.as_ref().map(Spanned::get_ref) {
            None => Vec::new(),
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
            Some(word) => word.as_str().into_iter().collect(),
        };
        let given = match raw.gate.as_ref().map(Spanned::get_ref) {
            Some(Value::Array(words)) => words.len(),
            Some(_) => 1,
            None => 0,
        };
        let at = raw.gate.as_ref().map_or(0, |gate| gate.span().start);
        if words.len() != given || (raw.gate.is_some() && given == 0) {
            return Err(self.rule(at, PolicyFault::Gate));
        }
        for word in words {
            match word {
                "approval" => gate.approvals = 1,
                "manual" => gate.manual = true,
                "webhook" => gate.webhook = true,
                _ => return Err(self.rule(at, PolicyFault::Gate)),
            }
        }
        let four_eyes = raw.four_eyes.as_ref().map(|eyes| (eyes.span().start, *eyes.get_ref()));
        let role = raw.approver_role.as_ref().map(|role| (role.span().start, *role.get_ref()));
        let approvals = raw.approvals.as_ref().map(|count| count.span().start);
        let first = approvals.or(four_eyes.map(|(at, _)| at)).or(role.map(|(at, _)| at));
        if let Some(at) = first.filter(|_| gate.approvals == 0) {
            return Err(self.rule(at, PolicyFault::ApprovalsWithoutGate));
        }
        let bounds = (u64::from(gate.approvals), 1, u64::from(APPROVALS_PER_GATE_MAX));
        gate.approvals = self.count("approvals", raw.approvals.clone(), bounds)?;
        gate.four_eyes = four_eyes.is_some_and(|(_, eyes)| eyes);
        gate.role = role.map(|(_, role)| role);
        match role {
            Some((at, role)) if !MAY_APPROVE.contains(&role) => {
                Err(self.rule(at, PolicyFault::ApproverRole))
            }
            Some(_) | None => Ok(gate),
        }
    }

    fn domain(&self, raw: &RawDomain) -> Result<DomainPolicy, PolicyError> {
        let max = u64::from(COUNT_MAX);
        let min_healthy = self.amount("min_healthy", raw.min_healthy.as_ref())?;
        Ok(DomainPolicy {
            label: self.name(&raw.label)?,
            at_once: self.count("at_once", raw.at_once.clone(), (1, 1, max))?,
            min_healthy: min_healthy.unwrap_or(Amount::Count(0)),
        })
    }

    fn evidence(&self, raw: Option<RawEvidence>) -> Result<EvidencePolicy, PolicyError> {
        let Some(raw) = raw else { return Ok(EvidencePolicy::default()) };
        let (secs, hosts) = (u64::from(u32::MAX), u64::from(COUNT_MAX));
        Ok(EvidencePolicy {
            host_secs: self.number("host_secs", raw.host_secs, (0, 0, secs))?,
            hosts: self.count("hosts", raw.hosts, (0, 0, hosts))?,
            short: raw.short.unwrap_or_default(),
        })
    }

    fn webhook(&self, raw: &Spanned<String>) -> Result<String, PolicyError> {
        let text = raw.get_ref();
        let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let fine = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
            && text.len() <= WEBHOOK_MAX_BYTES
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fine { Ok(text.clone()) } else { Err(self.rule(raw.span().start, PolicyFault::Webhook)) }
    }

    fn windows(&self, raw: &[Spanned<RawWindow>]) -> Result<Vec<Window>, PolicyError> {
        if let Some(extra) = raw.get(WINDOWS_MAX) {
            let fault = PolicyFault::TooMany { key: "[[window]]", max: WINDOWS_MAX };
            return Err(self.rule(extra.span().start, fault));
        }
        raw.iter().map(|window| self.window(window)).collect()
    }

    fn window(&self, spanned: &Spanned<RawWindow>) -> Result<Window, PolicyError> {
        let raw = spanned.get_ref();
        let zone = raw.zone.as_ref().map_or("UTC", |zone| zone.get_ref());
        if !zone_exists(zone) {
            let at = raw.zone.as_ref().map_or(0, |zone| zone.span().start);
            return Err(self.rule(at, PolicyFault::Zone(zone.to_owned())));
        }
        let start_minute = minute_of_day(raw.start.get_ref())
            .ok_or_else(|| self.rule(raw.start.span().start, PolicyFault::Start))?;
        let longest = u64::from(WINDOW_MAX_MINUTES);
        let minutes = self.count("minutes", Some(raw.minutes.clone()), (0, 1, longest))?;
        Ok(Window { days: self.days(raw)?, start_minute, minutes, zone: zone.to_owned() })
    }

    fn days(&self, raw: &RawWindow) -> Result<Vec<u8>, PolicyError> {
        let Some(spanned) = &raw.days else { return Ok((0..7).collect()) };
        let number = |word: &Value| {
            let word = word.as_str()?;
            DAYS.iter().zip(0_u8..).find(|(day, _)| **day == word).map(|(_, number)| number)
        };
        let days = match spanned.get_ref() {
            Value::String(word) if word == "daily" => Some((0..7).collect()),
            Value::String(word) if word == "weekdays" => Some((0..5).collect()),
            Value::Array(words) => words.iter().map(number).collect::<Option<Vec<u8>>>(),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Table(_) => None,
        };
        let mut days = days
            .filter(|days| !days.is_empty())
            .ok_or_else(|| self.rule(spanned.span().start, PolicyFault::Days))?;
        days.sort_unstable();
        days.dedup();
        Ok(days)
    }

    fn freezes(&self, raw: &[Spanned<RawFreeze>]) -> Result<Vec<Freeze>, PolicyError> {
        if let Some(extra) = raw.get(FREEZES_MAX) {
            let fault = PolicyFault::TooMany { key: "[[freeze]]", max: FREEZES_MAX };
            return Err(self.rule(extra.span().start, fault));
        }
        raw.iter().map(|freeze| self.freeze(freeze.get_ref())).collect()
    }

    fn freeze(&self, raw: &RawFreeze) -> Result<Freeze, PolicyError> {
        let at = |key: &'static str, text: &Spanned<String>| {
            let fault = || self.rule(text.span().start, PolicyFault::Moment(key));
            moment(text.get_ref()).ok_or_else(fault)
        };
        let (from, until) = (at("from", &raw.from)?, at("until", &raw.until)?);
        if until <= from {
            return Err(self.rule(raw.until.span().start, PolicyFault::FreezeBackwards));
        }
        Ok(Freeze { from, until, why: raw.why.clone() })
    }

    fn targets(&self, raw: &Spanned<String>) -> Result<Selector, PolicyError> {
        match raw.get_ref().trim() {
            "" => Err(self.rule(raw.span().start, PolicyFault::EmptyTargets)),
            "*" => Ok(Selector::default()),
            text => self.selector(text, raw.span().start),
        }
    }

    fn selector(&self, text: &str, at: usize) -> Result<Selector, PolicyError> {
        text.parse()
            .map_err(|source| PolicyError::Selector { line: line_of(self.text, at), source })
    }

    fn name<T>(&self, raw: &Spanned<String>) -> Result<T, PolicyError>
    where
        T: std::str::FromStr<Err = NameError>,
    {
        self.parse_name(raw.get_ref(), raw.span().start)
    }

    fn parse_name<T>(&self, text: &str, at: usize) -> Result<T, PolicyError>
    where
        T: std::str::FromStr<Err = NameError>,
    {
        text.parse().map_err(|source| PolicyError::Name { line: line_of(self.text, at), source })
    }

    /// `bounds` is (default, smallest, largest).
    fn number(
        &self,
        key: &'static str,
        raw: Option<Spanned<u64>>,
        bounds: (u64, u64, u64),
    ) -> Result<u64, PolicyError> {
        let (default, min, max) = bounds;
        let Some(raw) = raw else { return Ok(default) };
        let (value, at) = (*raw.get_ref(), raw.span().start);
        if (min..=max).contains(&value) {
            Ok(value)
        } else {
            Err(self.rule(at, PolicyFault::Bounds { key, min, max }))
        }
    }

    /// As [`Reader::secs`], for numbers of other things.
    fn count(
        &self,
        key: &'static str,
        raw: Option<Spanned<u64>>,
        bounds: (u64, u64, u64),
    ) -> Result<u32, PolicyError> {
        Ok(u32::try_from(self.number(key, raw, bounds)?).unwrap_or(u32::MAX))
    }

    fn flight(
        &self,
        key: &'static str,
        raw: Option<&Spanned<Value>>,
    ) -> Result<Option<Amount>, PolicyError> {
        let amount = self.amount(key, raw)?;
        match (amount, raw) {
            (Some(Amount::Count(0) | Amount::Percent(0)), Some(raw)) => {
                Err(self.rule(raw.span().start, PolicyFault::NothingInFlight(key)))
            }
            (amount, _) => Ok(amount),
        }
    }

    fn amount(
        &self,
        key: &'static str,
        raw: Option<&Spanned<Value>>,
    ) -> Result<Option<Amount>, PolicyError> {
        let Some(raw) = raw else { return Ok(None) };
        let value = raw.get_ref();
        let count = value.as_integer().and_then(|count| u32::try_from(count).ok());
        let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<u8>().ok());
        match (count, percent) {
            (Some(count), _) if count <= COUNT_MAX => Ok(Some(Amount::Count(count))),
            (_, Some(percent)) if percent <= 100 => Ok(Some(Amount::Percent(percent))),
            (_, _) => Err(self.rule(raw.span().start, PolicyFault::Amount(key))),
        }
    }

    fn rule(&self, at: usize, fault: PolicyFault) -> PolicyError {
        PolicyError::Rule { line: line_of(self.text, at), fault }
    }
}

fn takes_all(take: &Take) -> bool {
    match take {
        Take::Rest | Take::Percent(100) => true,
        Take::Count(_) | Take::Percent(_) | Take::Selector(_) => false,
    }
}

fn percent_of(take: &Take) -> Option<u8> {
    match take {
        Take::Percent(percent) => Some(*percent),
        Take::Count(_) | Take::Selector(_) | Take::Rest => None,
    }
}

/// The line of byte `at`, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// Minutes after midnight of a text such as `22:05`.
fn minute_of_day(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let (hour, minute) = (Some(hour).filter(|h| digits(h))?, Some(minute).filter(|m| digits(m))?);
    let (hour, minute) = (hour.parse::<u32>().ok()?, minute.parse::<u32>().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}
