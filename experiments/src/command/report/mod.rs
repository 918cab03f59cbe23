//! `tempograph report`: the reports of some runs as one page of HTML.
mod content;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use minijinja::Environment;
use tempograph_framework::write_atomic;
use tempograph_trainers::{Report, RunFiles, Status};

use crate::setup::folder::is_in_use;
use crate::terminal::own_file::PAGE;
use crate::terminal::print::{print, quoted};
use content::Page;

/// Write the reports of one or more runs as one HTML file, with tables and curves.
///
/// The file needs nothing else: no server, no network, no script. Runs that differ in their seed alone are also shown as
/// mean and standard deviation.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph report runs/mine                                runs/mine/report.html
  tempograph report runs/seed1 runs/seed2 runs/seed3 --out seeds.html
  tempograph report runs/*                                   all runs side by side, in runs.html")]
pub struct ReportArgs {
    /// Folders of runs, or their report.json files.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write. By default report.html in the folder of a single run, and runs.html here for several.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A folder without a report, a report that cannot be read, with its place; a page that cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    let reports = args.runs.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    let out = match (&args.out, args.runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [one]) if one.is_dir() => one.join("report.html"),
        (None, _) => "runs.html".into(),
    };
    PAGE.check(&out)?;
    let page = render(&Page::of(&label(&args.runs, reports))?)?;
    write_atomic(&out, page.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    print(format!("wrote {}; open it in a browser", quoted(&out.display().to_string())))
}

fn read(path: &Path) -> Result<Report> {
    let files = path.is_dir().then(|| RunFiles { folder: path.to_path_buf() });
    let file = files.as_ref().map_or_else(|| path.to_path_buf(), RunFiles::report);
    if files.is_some() && !file.exists() {
        bail!("{} holds no run ({} is missing)", path.display(), file.display());
    }
    let mut report = Report::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    if report.status == Status::Running && files.is_some_and(|files| !is_in_use(&files)) {
        report.status = Status::Failed;
        report.error =
            Some("its process was killed, or its machine stopped; --resume goes on from the last checkpoint".into());
    }
    Ok(report)
}

/// Each report with a label: its name, or its path where two runs have one name.
fn label(paths: &[PathBuf], reports: Vec<Report>) -> Vec<(String, Report)> {
    let names: Vec<String> = reports.iter().map(|report| report.name.clone()).collect();
    let unique = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
    let labels = names.iter().zip(paths).map(|(name, path)| match unique(name) {
        true => name.clone(),
        false => path.display().to_string(),
    });
    labels.collect::<Vec<_>>().into_iter().zip(reports).collect()
}

fn render(page: &Page) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template("page.html", include_str!("page.html"))?;
    Ok(environment.get_template("page.html")?.render(page)?)
}
