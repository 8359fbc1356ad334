//! Where things stand when nobody says: the XDG places, or their like on other systems.

use etcetera::BaseStrategy;
use std::path::PathBuf;

/// The settings file, whether it is there or not; `None` without a home directory.
pub fn config_file() -> Option<PathBuf> {
    Some(strategy()?.config_dir().join("secchat").join("config.toml"))
}

/// The data directory of a command (`client`, `server`).
pub fn data_dir(command: &str) -> Option<PathBuf> {
    Some(strategy()?.data_dir().join("secchat").join(command))
}

/// Where downloads go.
pub fn downloads_dir() -> Option<PathBuf> {
    Some(strategy()?.home_dir().join("Downloads"))
}

fn strategy() -> Option<impl BaseStrategy> {
    etcetera::choose_base_strategy().ok()
}
