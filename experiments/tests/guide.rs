//! The book's pages do what they say: every command of the guide is run, and every spec in it is read.
//!
//! A page is run from its top to its end in a folder of its own. In a block of `console`, a line that begins with `$ `
//! is a command for the shell; a line that ends with `\` goes on in the next, and a here-document ends at its word. All
//! other lines are what the command prints. `tempograph serve` runs in the background until the page ends or serves
//! again. What must succeed is said to fail, and so on, by a comment on the line before a block:
//!
//! | comment | the block |
//! |---|---|
//! | `<!-- not run: WHY -->` | needs another machine, data that is downloaded, or a program that is not here |
//! | `<!-- fails -->` | each of its commands is refused |
//! | `<!-- compared -->` | each line of its output is printed, `…` standing for anything |
//! | `<!-- fails, compared -->` | both |
//! | `<!-- small -->` | trains on a small stream for one epoch here, as `SMALL` says |
//! | `<!-- not read: WHY -->` | a block of `toml` that is neither a spec nor settings of a server |
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempograph_experiments::spec::RunSpec;
use tempograph_serving::ServeSpec;

/// Folders of the book whose pages are run.
const FOLDERS: [&str; 2] = ["guide", "from"];
/// Pages that are run at once.
const AT_ONCE: usize = 2;
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a training of a block that is marked `small` is given besides.
const SMALL: &str = " --set data.path=synthetic:events=2000,users=60,items=40 --set train.epochs=1";
/// Sections and keys of an experiment's spec.
const OF_SPECS: [&str; 12] = [
    "name", "seed", "threads", "device", "executor", "export", "data", "model", "pretrain", "train", "parallel", "eval",
];
/// Sections and keys of a server's settings.
const OF_SERVERS: [&str; 15] = [
    "late",
    "listen",
    "tls",
    "auth",
    "web",
    "audit",
    "event_time",
    "budget",
    "limits",
    "log",
    "snapshots",
    "scheduler",
    "engine",
    "logging",
    "traces",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The pages that are there, by name.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in FOLDERS.map(|folder| root().join("docs/src").join(folder)) {
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        pages.extend(
            files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md")),
        );
    }
    pages.sort();
    pages
}

/// A block of code.
#[derive(Debug)]
struct Block {
    /// Of the page; the first line of the block itself.
    line: usize,
    language: String,
    /// What the comment before it says.
    mark: String,
    text: String,
}

impl Block {
    fn marked(&self, what: &str) -> bool {
        self.mark.split(',').any(|part| part.trim().split(':').next() == Some(what))
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut mark, mut inside) = (String::new(), false);
    for (at, line) in page.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (inside, fence) {
            (false, Some(language)) => {
                inside = true;
                let (language, mark) = (language.trim().to_string(), std::mem::take(&mut mark));
                blocks.push(Block { line: at + 2, language, mark, text: String::new() });
            }
            (true, Some(_)) => inside = false,
            (true, None) => {
                let block = blocks.last_mut().unwrap();
                block.text += line;
                block.text.push('\n');
            }
            (false, None) => {
                let comment = line.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
                if let Some(said) = comment {
                    mark = said.trim().to_string();
                } else if !line.trim().is_empty() {
                    mark.clear();
                }
            }
        }
    }
    assert!(!inside, "the last block of the page has no end");
    blocks
}

/// A command of a block, and what the page says it prints.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The word that ends a here-document, if the command begins one.
fn word(command: &str) -> Option<&str> {
    let rest = command.split_once("<<")?.1.trim_start_matches(['\'', '"', '-']);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(first) = line.strip_prefix("$ ") else {
            let step = steps.last_mut().unwrap_or_else(|| panic!("output before any command: {line}"));
            step.printed.push(line.to_string());
            continue;
        };
        let mut command = first.to_string();
        while command.ends_with('\\') {
            write!(command, "\n{}", lines.next().expect("a command goes on in the next line")).unwrap();
        }
        if let Some(word) = word(&command).map(String::from) {
            loop {
                let line = lines.next().unwrap_or_else(|| panic!("the here-document has no line {word}"));
                write!(command, "\n{line}").unwrap();
                if line == word {
                    break;
                }
            }
        }
        steps.push(Step { command, printed: Vec::new() });
    }
    steps
}

/// Whether `line` is as `shown`, where `…` stands for anything.
fn like(line: &str, shown: &str) -> bool {
    let mut parts = shown.trim_end().split('…');
    let (first, line) = (parts.next().unwrap_or_default(), line.trim_end());
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        match (part.is_empty(), rest.find(part)) {
            (true, _) => {}
            (false, Some(at)) => rest = &rest[at + part.len()..],
            (false, None) => return false,
        }
        last = Some(part);
    }
    rest.is_empty() || last.is_some_and(|last| last.is_empty() || line.ends_with(last))
}

/// A server that a page has started.
struct Serving {
    process: Child,
    /// What it prints from now on goes there.
    _said: BufReader<std::process::ChildStdout>,
}

impl Serving {
    /// As its users stop it.
    fn stop(mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(asked.success() && self.process.wait().unwrap().success(), "a server does not end as it is asked to");
    }
}

/// A page under way.
struct Run {
    name: String,
    folder: tempfile::TempDir,
    port: u16,
    serving: Option<Serving>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            let _ = serving.process.kill();
            let _ = serving.process.wait();
        }
    }
}

impl Run {
    fn new(page: &Path) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(".bin");
        fs::create_dir(&own).unwrap();
        symlink(env!("CARGO_BIN_EXE_tempograph"), own.join("tempograph")).unwrap();
        // What a clone has at its top and the pages name.
        for name in ["experiments", "serving"] {
            symlink(root().join(name), folder.path().join(name)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        Run { name, folder, port, serving: None }
    }

    fn shell(&self, command: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.folder.path()).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{path}", self.folder.path().join(".bin").display()));
        // A launcher of the tests must not be taken for one of the page.
        for name in ["RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"] {
            shell.env_remove(name);
        }
        shell
    }

    fn serve(&mut self, command: &str, at: &str) {
        if let Some(before) = self.serving.take() {
            before.stop();
        }
        let plain = command.split(" #").next().unwrap_or(command).trim().trim_end_matches('&').trim();
        let listen =
            if plain.contains("--listen") { String::new() } else { format!(" --listen 127.0.0.1:{}", self.port) };
        let log = self.folder.path().join("server.log");
        let mut shell = self.shell(&format!("exec {plain}{listen}"));
        let mut process = shell.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("try: ") {
            line.clear();
            if said.read_line(&mut line).unwrap() == 0 {
                panic!("{at}: `{command}` does not serve: {}", fs::read_to_string(&log).unwrap());
            }
        }
        self.serving = Some(Serving { process, _said: said });
    }

    /// Runs a command to its end; what it printed, and whether it succeeded.
    fn command(&self, command: &str, at: &str) -> (String, bool) {
        let (out, err) = (self.folder.path().join(".stdout"), self.folder.path().join(".stderr"));
        let mut shell = self.shell(command);
        shell.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let (mut process, begun) = (shell.spawn().unwrap(), Instant::now());
        let status = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = process.kill();
                panic!("{at}: `{command}` has not ended after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        for file in [out, err] {
            let mut bytes = Vec::new();
            File::open(file).unwrap().read_to_end(&mut bytes).unwrap();
            said += &String::from_utf8_lossy(&bytes);
        }
        (said, status.success())
    }

    fn block(&mut self, block: &Block) {
        for step in steps(&block.text) {
            let at = format!("{} line {}", self.name, block.line);
            let mut command = step.command.replace("8080", &self.port.to_string());
            if block.marked("small") && command.starts_with("tempograph train") {
                command += SMALL;
            }
            let program = command.split_whitespace().next().unwrap_or_default();
            if ["curl", "python3"].contains(&program) && !here(program) {
                eprintln!("{at}: skipped, {program} is not here: {command}");
                continue;
            }
            if command.starts_with("tempograph serve") && !block.marked("fails") {
                self.serve(&command, &at);
                continue;
            }
            let (said, succeeded) = self.command(&command, &at);
            assert_eq!(succeeded, !block.marked("fails"), "{at}: `{command}` printed\n{said}");
            if block.marked("compared") {
                let shown = |line: &String| line.replace("8080", &self.port.to_string());
                for shown in step.printed.iter().map(shown).filter(|line| line.trim() != "…" && !line.trim().is_empty())
                {
                    let found = said.lines().any(|line| like(line, &shown));
                    assert!(found, "{at}: `{command}` does not print\n{shown}\nbut\n{said}");
                }
            }
        }
    }
}

/// Whether the system has a program of that name.
fn here(program: &str) -> bool {
    let looked = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    looked.is_ok_and(|status| status.success())
}

fn run(page: &Path) {
    let mut run = Run::new(page);
    for block in blocks(&fs::read_to_string(page).unwrap()) {
        if block.language == "console" && !block.marked("not run") {
            run.block(&block);
        }
    }
}

/// Reads a block as the program does, a spec or a server's settings.
fn read(text: &str) -> Result<(), String> {
    let mut table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let all_of = |known: &[&str]| table.keys().all(|key| known.contains(&key.as_str()));
    if all_of(&OF_SERVERS) {
        return ServeSpec::parse(text, &[]).map(drop);
    }
    if !all_of(&OF_SPECS) {
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        return Err(format!("{} are keys of no spec; say `<!-- not read: WHY -->` before the block", keys.join(", ")));
    }
    // A page may show a part of a spec.
    let data = table.entry("data").or_insert_with(|| toml::Table::new().into());
    let data = data.as_table_mut().ok_or("data is a section")?;
    data.entry("path").or_insert_with(|| "synthetic:events=2000".into());
    let whole = toml::to_string(&table).map_err(|error| error.to_string())?;
    RunSpec::parse(&whole, &[]).map(drop).map_err(|error| format!("{error:#}"))
}

#[test]
fn every_command_of_the_guide_does_what_its_page_says() {
    let waiting: Mutex<VecDeque<PathBuf>> = Mutex::new(pages().into());
    let next = || waiting.lock().unwrap().pop_front();
    std::thread::scope(|scope| {
        let work = || {
            while let Some(page) = next() {
                let begun = Instant::now();
                run(&page);
                eprintln!("{}: {:.1} s", page.display(), begun.elapsed().as_secs_f64());
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn every_spec_of_the_guide_is_read() {
    for page in pages() {
        for block in blocks(&fs::read_to_string(&page).unwrap()) {
            if block.language == "toml" && !block.marked("not read") {
                read(&block.text).unwrap_or_else(|why| panic!("{} line {}: {why}", page.display(), block.line));
            }
        }
    }
}

#[test]
fn blocks_and_commands_are_separated_from_the_text_between() {
    let page = "# A\n\n<!-- fails, compared -->\n\n```console\n$ a \\\n  b\nsaid\n$ cat > x <<'END'\n$ no command\nEND\n$ c\n```\n\n\
                <!-- not run: far -->\nWords.\n\n```toml\n[data]\n```\n";
    let found = blocks(page);
    assert_eq!(found.len(), 2);
    assert!(found[0].marked("fails") && found[0].marked("compared") && !found[0].marked("not run"));
    assert_eq!((found[1].language.as_str(), found[1].mark.as_str()), ("toml", ""), "words part a comment from a block");
    let steps = steps(&found[0].text);
    assert_eq!(steps[0], Step { command: "a \\\n  b".into(), printed: vec!["said".into()] });
    assert_eq!(steps[1].command, "cat > x <<'END'\n$ no command\nEND");
    assert_eq!(steps.len(), 3);
}

#[test]
fn output_is_compared_with_gaps() {
    for (line, shown, same) in [
        ("loss 0.5 in 3 s", "loss … in … s", true),
        ("loss 0.5", "loss …", true),
        ("loss 0.5", "loss", false),
        ("loss 0.5", "… 0.6", false),
        ("a b a b", "a … b", true),
        ("error: no", "error: no", true),
    ] {
        assert_eq!(like(line, shown), same, "{line} | {shown}");
    }
}
