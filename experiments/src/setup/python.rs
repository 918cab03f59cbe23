//! The Python that peers run in: the user's, or one that is installed once in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::terminal::print::note;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// The packages to install, with their versions.
const REQUIREMENTS: &str = include_str!("../../peers/requirements.txt");
/// Builds of torch without CUDA: a tenth of the size.
const CPU_WHEELS: &str = "https://download.pytorch.org/whl/cpu";
/// A file in a folder whose installation is complete.
const COMPLETE: &str = "complete";

/// `python`, if it can import what the peer `imports`.
///
/// # Errors
/// That it does not run, or which package is missing and how to install it.
pub(crate) fn checked(python: &Path, imports: &str) -> Result<PathBuf> {
    let output = Command::new(python)
        .args(["-c", imports])
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !output.status.success() {
        bail!(
            "{} lacks what the peer needs ({}); leave --python out to have it installed apart, or install it with\n  {0} -m pip install torch torch_geometric numpy pandas scikit-learn (and tgm-lib for tgm)",
            python.display(),
            last_line(&output)
        );
    }
    Ok(python.to_path_buf())
}

/// The Python for the peers. It is installed first if it is missing.
///
/// # Errors
/// No `python3`, no network, or an error of pip.
pub(crate) fn made(imports: &str) -> Result<PathBuf> {
    let folder =
        folder(std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from), std::env::var_os("HOME").map(PathBuf::from))?;
    let python = folder.join("bin/python");
    if !folder.join(COMPLETE).exists() {
        install(&folder, &python).with_context(|| {
            format!(
                "cannot install the peers into {}; --python PATH takes a Python that has torch and torch_geometric",
                folder.display()
            )
        })?;
    }
    checked(&python, imports)
}

/// One folder for each list of versions: a changed list makes a new folder.
fn folder(cache: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    let cache = cache.filter(|path| path.is_absolute()).or_else(|| home.map(|home| home.join(".cache")));
    let cache = cache
        .context("neither XDG_CACHE_HOME nor HOME says where to install the peers; name a Python with --python")?;
    let hash: String = Sha256::digest(REQUIREMENTS).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Ok(cache.join("tempograph/peers").join(format!("python-{hash}")))
}

fn install(folder: &Path, python: &Path) -> Result<()> {
    note(format!(
        "installing torch and the peers into {} (once; takes a few minutes and about 1 GB)",
        folder.display()
    ));
    let begun = Instant::now();
    if folder.exists() {
        fs::remove_dir_all(folder).context("cannot remove what an installation that was cut short left")?;
    }
    fs::create_dir_all(folder)?;
    run(Command::new("python3").args(["-m", "venv"]).arg(folder)).context("python3 makes no virtual environment")?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let pip = |args: &[&str]| {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(args);
        command
    };
    let torch =
        REQUIREMENTS.lines().find(|line| line.starts_with("torch==")).context("the requirements name no torch")?;
    if run(&mut pip(&["--no-deps", "--retries", "0", "--timeout", "15", "--index-url", CPU_WHEELS, torch])).is_err() {
        note(format!("{CPU_WHEELS} cannot be reached: torch comes from PyPI, with CUDA's libraries beside it (5 GB)"));
    }
    run(pip(&["--requirement"]).arg(&requirements)).context("pip failed")?;
    fs::write(folder.join(COMPLETE), "")?;
    note(format!("installed in {:.0} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{}", last_line(&output));
    }
    Ok(())
}

/// The last lines of a program's output. Python and pip print their reasons there.
fn last_line(output: &Output) -> String {
    let said = [&output.stderr, &output.stdout].map(|said| String::from_utf8_lossy(said).trim().to_string());
    let last = said.iter().find_map(|said| said.lines().last().map(String::from));
    last.unwrap_or_else(|| format!("it says nothing and ends with {}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_lies_in_the_users_cache() {
        let place = |cache: Option<&str>, home: Option<&str>| folder(cache.map(Into::into), home.map(Into::into));
        assert!(place(Some("/c"), Some("/h")).unwrap().starts_with("/c/tempograph/peers"));
        assert!(place(None, Some("/h")).unwrap().starts_with("/h/.cache/tempograph/peers"));
        assert!(place(Some("relative"), Some("/h")).unwrap().starts_with("/h/.cache"));
        assert!(place(None, None).unwrap_err().to_string().contains("--python"));
    }

    #[test]
    fn a_python_that_cannot_run_is_named() {
        let said = format!("{:#}", checked(Path::new("/nowhere/python"), "import torch").unwrap_err());
        assert!(said.contains("/nowhere/python"), "{said}");
    }
}
