//! The settings file: its values become the defaults of the command line, so that flags and the environment win over them.

use super::places;
use clap::{Arg, Command};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Why the settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Named, and not readable.
    #[error("cannot read the settings file {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not TOML.
    #[error("the settings file {path} is not TOML: {message}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A table or key that no command or option has.
    #[error("the settings file {path} has {key}, which means nothing")]
    Unknown {
        /// Which.
        path: PathBuf,
        /// `table` or `table.key`.
        key: String,
    },
    /// A value that is not a text, number, truth value or list of these.
    #[error("the settings file {path} has an unusable value for {key}")]
    Value {
        /// Which.
        path: PathBuf,
        /// `table.key`.
        key: String,
    },
}

/// Finds the settings file (`--config`, `SECCHAT_CONFIG`, the XDG place) and puts its values into the command as defaults. Only a
/// file that was named has to be there.
pub fn with_defaults_from_file(command: Command, arguments: &[OsString]) -> Result<Command, ConfigError> {
    let named = named_file(&command, arguments);
    let Some(path) = named.clone().or_else(places::config_file) else { return Ok(command) };
    match std::fs::read_to_string(&path) {
        Ok(text) => apply(command, &text, &path),
        Err(source) if named.is_none() && source.kind() == io::ErrorKind::NotFound => Ok(command),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

fn named_file(command: &Command, arguments: &[OsString]) -> Option<PathBuf> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    let of_command = matches.subcommand().and_then(|(_, sub)| file_of(sub));
    of_command.or_else(|| file_of(&matches))
}

fn file_of(matches: &clap::ArgMatches) -> Option<PathBuf> {
    matches.try_get_one::<PathBuf>("config").ok().flatten().cloned()
}

fn apply(mut command: Command, text: &str, path: &Path) -> Result<Command, ConfigError> {
    let unknown = |key: &str| ConfigError::Unknown { path: path.to_owned(), key: key.to_owned() };
    let settings: Table = text
        .parse()
        .map_err(|e: toml::de::Error| ConfigError::Syntax { path: path.to_owned(), message: e.message().to_owned() })?;
    for (table, values) in settings {
        let values = values.as_table().ok_or_else(|| unknown(&table))?.clone();
        let sub = command.find_subcommand(&table).ok_or_else(|| unknown(&table))?;
        let mut defaults = Vec::new();
        for (key, value) in values {
            let full = format!("{table}.{key}");
            let id =
                sub.get_arguments().find(|arg| is_setting(arg, &key)).ok_or_else(|| unknown(&full))?.get_id().clone();
            let texts = texts(&value).ok_or(ConfigError::Value { path: path.to_owned(), key: full })?;
            defaults.push((id, texts));
        }
        command = command.mut_subcommand(&table, |sub| {
            defaults.into_iter().fold(sub, |sub, (id, texts)| sub.mut_arg(id, |arg| arg.default_values(leak(texts))))
        });
    }
    Ok(command)
}

/// `--config` inside the file would come too late.
fn is_setting(arg: &Arg, key: &str) -> bool {
    arg.get_long() == Some(key) && key != "config"
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Integer(number) => Some(vec![number.to_string()]),
        Value::Float(number) => Some(vec![number.to_string()]),
        Value::Boolean(truth) => Some(vec![truth.to_string()]),
        Value::Array(values) => values.iter().map(|v| texts(v).filter(|t| t.len() == 1)?.pop()).collect(),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// The parser wants defaults that live as long as the program; there are a handful, read once.
fn leak(texts: Vec<String>) -> Vec<&'static str> {
    texts.into_iter().map(|text| &*text.leak()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ArgAction;

    fn command() -> Command {
        let name = Arg::new("name").long("name").env("SECCHAT_TEST_NAME_THAT_IS_NOT_SET");
        let listen = Arg::new("listen").long("listen").action(ArgAction::Append);
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
        let config = Arg::new("config").long("config").global(true).value_parser(clap::value_parser!(PathBuf));
        Command::new("secchat").arg(config).subcommand(Command::new("server").args([name, listen, json]))
    }

    fn matches(toml: &str, arguments: &[&str]) -> clap::ArgMatches {
        let command = apply(command(), toml, Path::new("config.toml")).unwrap();
        let matches = command.try_get_matches_from([&["secchat", "server"], arguments].concat()).unwrap();
        matches.subcommand_matches("server").unwrap().clone()
    }

    #[test]
    fn flags_win_over_the_file() {
        let toml = "[server]\nname = 'file'\nlisten = ['a', 'b']\njson = true";
        let of_file = matches(toml, &[]);
        assert_eq!(of_file.get_one::<String>("name").unwrap(), "file");
        assert_eq!(of_file.get_many::<String>("listen").unwrap().collect::<Vec<_>>(), ["a", "b"]);
        assert!(of_file.get_flag("json"));
        let of_flags = matches(toml, &["--name", "flag", "--listen", "c"]);
        assert_eq!(of_flags.get_one::<String>("name").unwrap(), "flag");
        assert_eq!(of_flags.get_many::<String>("listen").unwrap().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn what_means_nothing_is_said() {
        let refused = |toml| apply(command(), toml, Path::new("x")).unwrap_err().to_string();
        assert!(refused("[serve]\n").contains("serve,"));
        assert!(refused("[server]\nnaem = 'x'").contains("server.naem"));
        assert!(refused("[server]\nname = {a = 1}").contains("server.name"));
        assert!(refused("name = 'x'").contains("name,"));
        assert!(refused("[server").contains("not TOML"));
    }

    #[test]
    fn a_named_file_must_be_there() {
        let named = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            named_file(&command(), &arguments)
        };
        assert_eq!(named(&["secchat", "--config", "a", "server"]), Some("a".into()));
        assert_eq!(named(&["secchat", "server", "--config", "b", "--bogus"]), Some("b".into()));
        assert_eq!(named(&["secchat", "server"]), None);
        let arguments = ["secchat", "server", "--config", "/absent/config.toml"].map(OsString::from);
        assert!(matches!(with_defaults_from_file(command(), &arguments), Err(ConfigError::Read { .. })));
    }
}
