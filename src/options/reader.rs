//! Takes values out of the map that were asked for, and says what is wrong with one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::ParseFloatError;
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;

/// Makes a value of a text. What is wrong otherwise is what would be right.
pub(super) type Parse<T> = fn(&str) -> Result<T, String>;

/// What nobody has asked for yet, and every key that somebody has.
pub(super) struct Reader<'a> {
    left: BTreeMap<&'a str, &'a str>,
    known: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(values: &'a BTreeMap<String, String>) -> Self {
        let left = values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        Self { left, known: Vec::new() }
    }

    pub(super) fn take<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        self.known.push(key.into());
        let Some(value) = self.left.remove(key) else { return Ok(None) };
        match parse(value) {
            Ok(value) => Ok(Some(value)),
            Err(allowed) => Err(Error::option(key, format!("{value:?} is not {allowed}"))),
        }
    }

    /// Both or neither.
    pub(super) fn both<T, U>(
        &mut self,
        (first, parse_first): (&str, Parse<T>),
        (second, parse_second): (&str, Parse<U>),
    ) -> Result<Option<(T, U)>, Error> {
        match (self.take(first, parse_first)?, self.take(second, parse_second)?) {
            (Some(one), Some(other)) => Ok(Some((one, other))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::option(first, format!("not without {second}"))),
            (None, Some(_)) => Err(Error::option(second, format!("not without {first}"))),
        }
    }

    pub(super) fn pair(
        &mut self,
        first: &str,
        second: &str,
    ) -> Result<Option<(String, String)>, Error> {
        self.both((first, text), (second, text))
    }

    /// One of these words.
    pub(super) fn one_of(
        &mut self,
        key: &str,
        words: &'static [&'static str],
    ) -> Result<Option<&'static str>, Error> {
        self.take(key, |value| {
            let word = words.iter().find(|word| **word == value).copied();
            word.ok_or_else(|| format!("one of {}", words.join(", ")))
        })
    }

    /// Whether a section is switched on. Where it is switched off none of its keys can have an effect.
    pub(super) fn switch(&mut self, section: &str) -> Result<bool, Error> {
        let is_on = self.take(section, flag)?;
        let begins =
            |key: &&&str| key.strip_prefix(section).is_some_and(|end| end.starts_with('.'));
        match self.left.keys().find(begins) {
            Some(key) if is_on == Some(false) => {
                Err(Error::option(key, format!("no effect: {section} is false")))
            }
            _ => Ok(is_on == Some(true)),
        }
    }

    /// All keys that begin so, without that.
    pub(super) fn take_all(&mut self, start: &'static str) -> Vec<(&'a str, &'a str)> {
        self.known.push(format!("{start}NAME"));
        let (meant, left) =
            std::mem::take(&mut self.left).into_iter().partition(|(key, _)| key.starts_with(start));
        self.left = left;
        let meant: BTreeMap<&str, &str> = meant;
        meant.into_iter().map(|(key, value)| (&key[start.len()..], value)).collect()
    }

    pub(super) fn known(mut self) -> Vec<String> {
        self.known.sort();
        self.known
    }

    /// Refuses what nobody has asked for.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Some(unknown) = self.left.keys().next() else { return Ok(()) };
        let section = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
        let mut known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        if known.iter().any(|key| section(key) == section(unknown)) {
            known.retain(|key| section(key) == section(unknown));
        }
        known.sort_unstable();
        Err(Error::option(unknown, format!("no such key; there are {}", known.join(", "))))
    }
}

pub(super) fn text(value: &str) -> Result<String, String> {
    Ok(value.into())
}

pub(super) fn list(value: &str) -> Result<Vec<String>, String> {
    Ok(value.split_whitespace().map(Into::into).collect())
}

pub(super) fn flag(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "true or false".into())
}

pub(super) fn number<T: FromStr>(value: &str) -> Result<T, String> {
    value.trim().parse().map_err(|_| "a number in its range".into())
}

pub(super) fn address(value: &str) -> Result<SocketAddr, String> {
    value.trim().parse().map_err(|_| "an address and a port, like 127.0.0.1:0".into())
}

/// A number and what is behind it.
fn with_unit(value: &str) -> Result<(f64, &str), ParseFloatError> {
    let value = value.trim();
    let end = value.find(|c: char| c.is_alphabetic()).unwrap_or(value.len());
    Ok((value[..end].trim().parse()?, value[end..].trim()))
}

pub(super) fn time(value: &str) -> Result<Duration, String> {
    let allowed = || "a time, like 500ms, 1.5s, 2min, 1h, 3d, or a number of seconds".to_owned();
    let (number, unit) = with_unit(value).map_err(|_| allowed())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86400.0,
        _ => return Err(allowed()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| allowed())
}

pub(super) fn size<T: TryFrom<usize>>(value: &str) -> Result<T, String> {
    let allowed = || "a number of bytes, or one with KiB, MiB or GiB behind it".to_owned();
    let value = value.trim();
    let (number, shift) = match [("KiB", 10), ("MiB", 20), ("GiB", 30)]
        .iter()
        .find_map(|(unit, shift)| Some((value.strip_suffix(unit)?.trim_end(), *shift)))
    {
        Some(found) => found,
        None => (value, 0),
    };
    let number: usize = number.parse().map_err(|_| allowed())?;
    let bytes = number.checked_mul(1 << shift).and_then(|bytes| T::try_from(bytes).ok());
    bytes.ok_or_else(allowed)
}

/// A word of the value's own, as a configuration has it.
pub(super) fn word<T: DeserializeOwned>(value: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(value.into())).map_err(|error| {
        let error = error.to_string();
        let allowed = error.split_once("expected ").map_or(error.as_str(), |(_, allowed)| allowed);
        allowed.replace('`', "")
    })
}
