//! Hours of the day.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY: u32 = 24 * 60;

/// Hours of the day, in local time, that may go past midnight: `22:00-06:00`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// Minutes after midnight at which it begins.
    from: u32,
    /// Minutes after midnight at which it ends.
    to: u32,
}

impl Window {
    /// Whether this minute of the day lies in it.
    pub fn holds(self, minute: u32) -> bool {
        let behind = |start: u32| (minute + DAY - start) % DAY;
        behind(self.from) < (self.to + DAY - self.from) % DAY
    }

    /// Minutes from this minute of the day until it begins; 0 where it has.
    pub fn opens_in(self, minute: u32) -> u32 {
        if self.holds(minute) { 0 } else { (self.from + DAY - minute % DAY) % DAY }
    }

    /// Minutes of a day that lie in it.
    pub fn minutes(self) -> u32 {
        (self.to + DAY - self.from) % DAY
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let ends = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match ends {
            Some((from, to)) if from != to => Ok(Self { from, to }),
            _ => Err(format!("'{text}' is not two times of a day, as in 22:00-06:00")),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(out, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_goes_past_midnight() {
        let night: Window = "22:00-06:00".parse().expect("hours");
        let at = |hours: u32, minutes: u32| hours * 60 + minutes;
        for (minute, is_in, opens_in) in [
            (at(21, 59), false, 1),
            (at(22, 0), true, 0),
            (at(0, 0), true, 0),
            (at(5, 59), true, 0),
            (at(6, 0), false, 16 * 60),
        ] {
            assert_eq!(
                (night.holds(minute), night.opens_in(minute)),
                (is_in, opens_in),
                "{minute}"
            );
        }
        assert_eq!(night.minutes(), 8 * 60);
        assert_eq!(night.to_string(), "22:00-06:00");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in ["", "22:00", "22-06", "24:00-06:00", "22:60-06:00", "06:00-06:00", "a:b-c:d"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
