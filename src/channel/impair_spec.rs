//! What is wrong with a path, as text: `loss=1%,burst=2%/8,dup=1%,reorder=25%/5ms,corrupt=1%,delay=25ms/5ms,
//! rate=200mbit,queue=50ms,seed=1`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Settings of one direction; probabilities are for each datagram, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Random loss.
    pub loss: f64,
    /// Loss in runs, beside `loss`.
    pub burst: Option<Burst>,
    /// Delivered twice.
    pub dup: f64,
    /// Delivered later than those that follow ...
    pub reorder: f64,
    /// ... by so much.
    pub reorder_by: Duration,
    /// One bit is flipped.
    pub corrupt: f64,
    pub delay: Duration,
    /// The delay varies by so much either way; order is kept.
    pub jitter: Duration,
    /// Bits a second; `None` is unlimited.
    pub rate: Option<u64>,
    /// What waits for the rate.
    pub queue: Queue,
    pub seed: u64,
}

/// Loss in runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Share of all datagrams, below 1.
    pub loss: f64,
    /// Datagrams in a run, on average; at least 1.
    pub length: f64,
}

/// Room in front of the bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    Time(Duration),
    Bytes(usize),
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: None,
            dup: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(5),
            corrupt: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: Queue::Time(Duration::from_millis(50)),
            seed: 0,
        }
    }
}

/// Text that names no path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// Not `key=value`.
    #[error("`{0}` is not of the form key=value")]
    NotAPair(String),
    /// No such impairment.
    #[error("there is no `{0}`: use loss, burst, dup, reorder, corrupt, delay, rate, queue or seed")]
    UnknownKey(String),
    /// Given twice.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// A value that its key cannot have.
    #[error("{key}: `{value}` is not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl FromStr for Spec {
    type Err = SpecError;

    /// Parses a comma-separated list; nothing at all is a good path.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut spec = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else { return Err(SpecError::NotAPair(part.to_owned())) };
            if seen.contains(&key) {
                return Err(SpecError::Twice(key.to_owned()));
            }
            seen.push(key);
            spec.set(key, value)?;
        }
        Ok(spec)
    }
}

impl Spec {
    fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        match key {
            "loss" => self.loss = Value("loss", value).share()?,
            "burst" => self.burst = Value("burst", value).burst()?,
            "dup" => self.dup = Value("dup", value).share()?,
            "reorder" => {
                let (share, by) = halves(value);
                self.reorder = Value("reorder", share).share()?;
                if let Some(by) = by {
                    self.reorder_by = Value("reorder", by).time()?;
                }
            }
            "corrupt" => self.corrupt = Value("corrupt", value).share()?,
            "delay" => {
                let (delay, jitter) = halves(value);
                self.delay = Value("delay", delay).time()?;
                if let Some(jitter) = jitter {
                    self.jitter = Value("delay", jitter).time()?;
                }
            }
            "rate" => self.rate = Some(Value("rate", value).rate()?),
            "queue" => self.queue = Value("queue", value).queue()?,
            "seed" => self.seed = value.parse().map_err(|_| Value("seed", value).error("a whole number"))?,
            _ => return Err(SpecError::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

/// A value, with the key that it is for.
struct Value<'a>(&'static str, &'a str);

impl Value<'_> {
    fn error(&self, expected: &'static str) -> SpecError {
        SpecError::Value { key: self.0, value: self.1.to_owned(), expected }
    }

    fn share(&self) -> Result<f64, SpecError> {
        let percent = self.1.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        match percent {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
            _ => Err(self.error("a percentage from 0% to 100%")),
        }
    }

    fn burst(&self) -> Result<Option<Burst>, SpecError> {
        const EXPECTED: &str = "a percentage below 100% and a mean length from 1 to 10000, like 2%/8";
        let (loss, length) = halves(self.1);
        let loss = Value(self.0, loss).share().map_err(|_| self.error(EXPECTED))?;
        let length = length.and_then(|length| length.parse::<f64>().ok());
        match length {
            Some(length) if loss < 1.0 && (1.0..=10_000.0).contains(&length) => {
                Ok((loss > 0.0).then_some(Burst { loss, length }))
            }
            _ => Err(self.error(EXPECTED)),
        }
    }

    fn time(&self) -> Result<Duration, SpecError> {
        let time = humantime::parse_duration(self.1).ok().filter(|time| *time <= TIME_MAX);
        time.ok_or_else(|| self.error("a time up to an hour, like 25ms"))
    }

    fn rate(&self) -> Result<u64, SpecError> {
        let units = [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
        let rate = self.number(&units).filter(|rate| (1e3..=1e12).contains(rate));
        rate.map(|rate| rate as u64).ok_or_else(|| self.error("a bit rate from 1kbit to 1000gbit, like 200mbit"))
    }

    fn queue(&self) -> Result<Queue, SpecError> {
        let units = [("kb", 1e3), ("mb", 1e6)];
        if let Some(bytes) = self.number(&units).filter(|bytes| (0.0..=1e9).contains(bytes)) {
            return Ok(Queue::Bytes(bytes as usize));
        }
        self.time().map(Queue::Time).map_err(|_| self.error("a time like 50ms, or bytes like 256kb"))
    }

    fn number(&self, units: &[(&str, f64)]) -> Option<f64> {
        let text = self.1.to_ascii_lowercase();
        units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
    }
}

impl fmt::Display for Spec {
    /// As it can be parsed again; what is not set is left out, but for the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_duration;
        let share = |f: &mut fmt::Formatter<'_>, key: &str, share: f64| match share > 0.0 {
            true => write!(f, "{key}={}%,", share * 100.0),
            false => Ok(()),
        };
        share(f, "loss", self.loss)?;
        if let Some(Burst { loss, length }) = self.burst {
            write!(f, "burst={}%/{length},", loss * 100.0)?;
        }
        share(f, "dup", self.dup)?;
        if self.reorder > 0.0 {
            write!(f, "reorder={}%/{},", self.reorder * 100.0, time(self.reorder_by))?;
        }
        share(f, "corrupt", self.corrupt)?;
        if !(self.delay.is_zero() && self.jitter.is_zero()) {
            write!(f, "delay={}/{},", time(self.delay), time(self.jitter))?;
        }
        if let Some(rate) = self.rate {
            write!(f, "rate={}kbit,", rate as f64 / 1e3)?;
            match self.queue {
                Queue::Time(most) => write!(f, "queue={},", time(most))?,
                Queue::Bytes(most) => write!(f, "queue={}kb,", most as f64 / 1e3)?,
            }
        }
        write!(f, "seed={}", self.seed)
    }
}

/// `a/b`, or `a` alone.
fn halves(value: &str) -> (&str, Option<&str>) {
    value.split_once('/').map_or((value, None), |(first, second)| (first, Some(second)))
}

const TIME_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_set() {
        let text =
            "loss=1%,burst=2%/8,dup=0.5%,reorder=25%/7ms,corrupt=1%,delay=25ms/5ms,rate=200mbit,queue=256kb,seed=9";
        let spec: Spec = text.parse().unwrap();
        assert_eq!(spec.burst, Some(Burst { loss: 0.02, length: 8.0 }));
        assert_eq!((spec.loss, spec.dup, spec.reorder, spec.corrupt), (0.01, 0.005, 0.25, 0.01));
        assert_eq!((spec.reorder_by, spec.delay), (Duration::from_millis(7), Duration::from_millis(25)));
        assert_eq!((spec.jitter, spec.rate), (Duration::from_millis(5), Some(200_000_000)));
        assert_eq!((spec.queue, spec.seed), (Queue::Bytes(256_000), 9));
        assert_eq!(spec.to_string().parse::<Spec>(), Ok(spec));
        assert_eq!("".parse(), Ok(Spec::default()));
        assert_eq!(" loss=0% , queue=10ms ".parse::<Spec>().unwrap().queue, Queue::Time(Duration::from_millis(10)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("loss", "`loss` is not of the form key=value"),
            ("los=1%", "there is no `los`: use loss, burst, dup, reorder, corrupt, delay, rate, queue or seed"),
            ("loss=1%,loss=2%", "`loss` is given twice"),
            ("loss=1", "loss: `1` is not a percentage from 0% to 100%"),
            ("loss=101%", "loss: `101%` is not a percentage from 0% to 100%"),
            ("dup=NaN%", "dup: `NaN%` is not a percentage from 0% to 100%"),
            ("burst=1%", "burst: `1%` is not a percentage below 100% and a mean length from 1 to 10000, like 2%/8"),
            ("delay=25", "delay: `25` is not a time up to an hour, like 25ms"),
            ("delay=2h", "delay: `2h` is not a time up to an hour, like 25ms"),
            ("reorder=1%/x", "reorder: `x` is not a time up to an hour, like 25ms"),
            ("rate=200", "rate: `200` is not a bit rate from 1kbit to 1000gbit, like 200mbit"),
            ("rate=-1mbit", "rate: `-1mbit` is not a bit rate from 1kbit to 1000gbit, like 200mbit"),
            ("queue=many", "queue: `many` is not a time like 50ms, or bytes like 256kb"),
            ("seed=-1", "seed: `-1` is not a whole number"),
        ] {
            assert_eq!(text.parse::<Spec>().unwrap_err().to_string(), message);
        }
    }
}
