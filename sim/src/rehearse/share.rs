//! Parts of a fleet as people write them: `2%`, `0.5%`, `role=web*30%`, `canary=yes*50`.

use std::str::FromStr;

use groundswell_common::Label;

/// One percent, in parts per million.
const PERCENT: u32 = 10_000;
/// Decimals that a percent may have.
const DECIMALS_MAX: usize = 4;

/// A part of some hosts: 0 to 100 percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    millionths: u32,
}

/// Text that is no part of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// No percent.
    #[error("read {0:?}: want a percent such as 2% or 0.5%, 0% to 100%")]
    Percent(String),
    /// No label.
    #[error("read {0:?}: want key=value, key=value*30% or key=value*120")]
    Label(String),
}

impl Share {
    /// So many of `hosts`, rounded up.
    #[must_use]
    pub fn of(self, hosts: u32) -> u32 {
        let part = (u64::from(hosts) * u64::from(self.millionths)).div_ceil(1_000_000);
        u32::try_from(part).unwrap_or(hosts)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError::Percent(text.chars().take(40).collect());
        let number = text.strip_suffix('%').unwrap_or(text);
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > DECIMALS_MAX {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let part: u32 = format!("{part:0<DECIMALS_MAX$}").parse().map_err(|_| wrong())?;
        let millionths = whole.checked_mul(PERCENT).and_then(|whole| whole.checked_add(part));
        let millionths = millionths.filter(|share| *share <= 100 * PERCENT).ok_or_else(wrong)?;
        Ok(Self { millionths })
    }
}

/// How many hosts have a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// Every host that has no such label yet.
    Rest,
    /// This many.
    Count(u32),
    /// This part of the fleet.
    Share(Share),
}

/// A label and how many hosts have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelShare {
    /// The label's key.
    pub key: Label,
    /// Its value.
    pub value: Label,
    /// On how many hosts.
    pub portion: Portion,
}

impl FromStr for LabelShare {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let wrong = || ShareError::Label(text.chars().take(200).collect());
        let (pair, portion) = match text.split_once('*') {
            None => (text, Portion::Rest),
            Some((pair, share)) if share.ends_with('%') => {
                (pair, Portion::Share(share.parse().map_err(|_| wrong())?))
            }
            Some((pair, count)) => (pair, Portion::Count(count.parse().map_err(|_| wrong())?)),
        };
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        let label = |text: &str| text.trim().parse::<Label>().map_err(|_| wrong());
        Ok(Self { key: label(key)?, value: label(value)?, portion })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_read_to_four_decimals_and_rounded_up() {
        let of = |text: &str, hosts| text.parse::<Share>().expect(text).of(hosts);
        assert_eq!((of("2%", 10_000), of("2", 100), of("0.5%", 1_000)), (200, 2, 5));
        assert_eq!((of("100%", 7), of("0%", 7), of("0.0001%", 7)), (7, 0, 1));
        for bad in ["", "%", "-1%", "101%", "100.0001%", "1.00001%", "1.%", ".5%", "two", "1e2"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_have_a_portion() {
        let portion = |text: &str| text.parse::<LabelShare>().map(|label| label.portion);
        assert_eq!(portion("role=web"), Ok(Portion::Rest));
        assert_eq!(portion("role=web*12"), Ok(Portion::Count(12)));
        assert_eq!(portion("a=b*30%"), Ok(Portion::Share("30%".parse().expect("a share"))));
        for bad in ["role", "=web", "role=", "a=b*", "a=b*x", "a=b*200%", "a=b*1*2"] {
            assert!(portion(bad).is_err(), "{bad}");
        }
    }
}
