//! `ringcast config check FILE`.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::output::Output;
use crate::settings::{self, Problem, Settings};

#[derive(Serialize)]
struct Checked<'a> {
    file: &'a Path,
    ok: bool,
    settings: Option<&'a Settings>,
    errors: &'a [Problem],
}

/// Prints what the file sets; or everything wrong with it, and says `false`.
pub(crate) fn check(file: &Path, output: Output) -> Result<bool> {
    match settings::load_file(file) {
        Ok(settings) => {
            let checked = Checked {
                file,
                ok: true,
                settings: Some(&settings),
                errors: &[],
            };
            output.print(&checked, |_| people(file, &settings))?;
            Ok(true)
        }
        Err(errors) => {
            let checked = Checked {
                file,
                ok: false,
                settings: None,
                errors: &errors.0,
            };
            if output.is_json() {
                output.print(&checked, |_| String::new())?;
            } else {
                for problem in &errors.0 {
                    eprintln!("error: {problem}");
                }
            }
            Ok(false)
        }
    }
}

/// The settings as TOML, without those that are not set: what can be pasted back.
fn people(file: &Path, settings: &Settings) -> String {
    let value = serde_json::to_value(settings).unwrap_or_default();
    let mut text = format!("# {} is fine; it sets:\n", file.display());
    let mut tables = String::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Object(table) => {
                let set: Vec<_> = table.iter().filter(|(_, value)| is_set(value)).collect();
                if !set.is_empty() {
                    tables += &format!("\n[{key}]\n");
                    set.iter()
                        .for_each(|(key, value)| tables += &format!("{key} = {value}\n"));
                }
            }
            serde_json::Value::Array(list) => {
                for table in list.iter().filter_map(|item| item.as_object()) {
                    tables += &format!("\n[[{key}]]\n");
                    table
                        .iter()
                        .filter(|(_, value)| is_set(value))
                        .for_each(|(key, value)| tables += &format!("{key} = {value}\n"));
                }
            }
            value if is_set(value) => text += &format!("{key} = {value}\n"),
            _ => {}
        }
    }
    text + &tables
}

fn is_set(value: &serde_json::Value) -> bool {
    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_pasted_back() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ringcast.example.toml");
        let settings = settings::load_file(&example).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pasted = folder.path().join("pasted.toml");
        std::fs::write(&pasted, people(&example, &settings)).unwrap();
        assert_eq!(settings::load_file(&pasted).unwrap(), settings);
    }
}
