//! Reads the validity out of an X.509 certificate, to know when to renew it or that it ends. Reads nothing else and
//! trusts nothing: TLS checks certificates, not this file.

use groundswell_common::Timestamp;

/// A third of the 30 days that an agent's certificate is made for.
const RENEW_MILLIS: u64 = 10 * 86_400_000;

/// From when to when a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Since when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Validity {
    /// When to renew: ten days before the end, or once a third of the life is left where that is later.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        let life_millis = self.until.millis_since(self.from);
        self.from.plus_millis(life_millis - (life_millis / 3).min(RENEW_MILLIS))
    }
}

/// The validity in a certificate's DER; `None` when it is no certificate.
#[must_use]
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, 0x30)?;
    let (mut tbs, _) = element(certificate, 0x30)?;
    if let Some((_, rest)) = element(tbs, 0xa0) {
        tbs = rest;
    }
    let (_serial, rest) = element(tbs, 0x02)?;
    let (_algorithm, rest) = element(rest, 0x30)?;
    let (_issuer, rest) = element(rest, 0x30)?;
    let (times, _) = element(rest, 0x30)?;
    let (from, rest) = time(times)?;
    let (until, _) = time(rest)?;
    Some(Validity { from, until })
}

/// Splits off one DER element with this tag: its content, and what follows.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    if *first < 0x80 {
        return rest.split_at_checked(usize::from(*first));
    }
    let (length, rest) = rest.split_at_checked(usize::from(*first & 0x7f))?;
    if length.len() > 4 {
        return None;
    }
    let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

/// A UTCTime or GeneralizedTime, and what follows.
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    if let Some((text, rest)) = element(bytes, 0x17) {
        let (years, others) = std::str::from_utf8(text).ok()?.split_at_checked(2)?;
        let short: u64 = years.parse().ok()?;
        // RFC 5280, 4.1.2.5.1: two digits from 50 on are of the twentieth century.
        let year = if short >= 50 { 1900 + short } else { 2000 + short };
        return Some((instant(year, others)?, rest));
    }
    let (text, rest) = element(bytes, 0x18)?;
    let (year, others) = std::str::from_utf8(text).ok()?.split_at_checked(4)?;
    Some((instant(year.parse().ok()?, others)?, rest))
}

/// `MMDDHHMMSSZ` in a year.
fn instant(year: u64, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 10)?;
    let part = |at: usize| digits.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    let days = days_since_1970(year, month, day)?;
    Some(Timestamp::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

/// Days from 1970-01-01 in the Gregorian calendar, years counted from March.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, of_era) = (shifted / 400, shifted % 400);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validity_of_a_real_certificate_is_read() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["host".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 11, 23);
        params.not_after = rcgen::date_time_ymd(2054, 2, 28);
        let der = params.self_signed(&pair).unwrap().der().to_vec();
        let read = validity(&der).unwrap();
        assert_eq!(read.from.to_string(), "2026-11-23T00:00:00.000Z");
        assert_eq!(read.until.to_string(), "2054-02-28T00:00:00.000Z");
        for at in 0..40 {
            assert_eq!(validity(&der[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn renewal_comes_when_a_third_is_left_and_ten_days_before_the_end_at_the_latest() {
        let at = Timestamp::from_secs;
        assert_eq!(Validity { from: at(0), until: at(30) }.renew_at(), at(20));
        let day = 86_400;
        let made_ahead = Validity { from: at(0), until: at(395 * day) };
        assert_eq!(made_ahead.renew_at(), at(385 * day));
    }
}
