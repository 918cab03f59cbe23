//! Checks what the book, the README and the other documents let a reader type: subcommands, flags, settings and specs
//! must exist.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn tempograph(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tempograph")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The pages in a folder and in all below it.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let pages = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain(folders.iter().flat_map(|folder| self::pages(folder))).collect()
}

/// The commands of a page: the text after `$ ` in blocks that are marked `console`, with continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let joined: Vec<String> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    joined.iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix("$ ").map(String::from)).collect()
}

/// The arguments of a call of `tempograph` in a command, from the subcommand on. None for another program.
fn call(command: &str) -> Option<Vec<String>> {
    let words = command.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
    let words: Vec<&str> = words
        .take_while(|word| !matches!(*word, "|" | "&" | "&&" | ";" | ">" | "2>&1") && !word.starts_with('#'))
        .collect();
    let by_cargo = words.starts_with(&["cargo", "run"]) && !words.contains(&"--example");
    let is_program =
        |word: &&str| *word == "tempograph" || word.ends_with("/tempograph") || (by_cargo && *word == "--");
    let starter = words.iter().position(is_program)?;
    let before = &words[..starter];
    let other = [
        "python", "python3", "cd", "alias", "cp", "install", "docker", "kubectl", "nsys", "ls", "sudo", "echo", "cargo",
    ];
    if before.first().is_some_and(|first| other.contains(first)) && !by_cargo {
        return None;
    }
    Some(words[starter + 1..].iter().map(|word| word.to_string()).collect())
}

/// The keys of a commented spec, as `section.key`.
fn keys(template: &str) -> BTreeSet<String> {
    let (mut section, mut keys) = (String::new(), BTreeSet::new());
    for line in template.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']).to_string();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            keys.insert(if section.is_empty() { key.into() } else { format!("{section}.{key}") });
        }
    }
    keys
}

/// All keys that `--set` accepts, of experiments and of servers.
fn settings() -> [BTreeSet<String>; 2] {
    let folder = std::env::temp_dir().join(format!("tempograph-book-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let written = |name: &str, args: &[&str]| {
        let path = folder.join(name);
        let mut all = vec!["new", path.to_str().unwrap()];
        all.splice(1..1, args.iter().copied());
        tempograph(&all);
        keys(&std::fs::read_to_string(&path).unwrap())
    };
    let listed = tempograph(&["models"]);
    let kinds = listed.lines().filter(|line| line.starts_with(|char: char| char.is_ascii_lowercase()));
    let kinds = kinds.filter_map(|line| line.split_whitespace().next());
    let of_runs = kinds.flat_map(|kind| written(&format!("{kind}.toml"), &["--model", kind])).collect();
    let of_servers = written("serve.toml", &["--serve"]);
    std::fs::remove_dir_all(&folder).unwrap();
    [of_runs, of_servers]
}

#[test]
fn every_command_of_the_documents_is_one_that_the_program_takes() {
    let mut documents = pages(&root().join("docs/src"));
    documents.extend(["README.md", "CONTRIBUTING.md", "experiments/README.md"].map(|path| root().join(path)));
    let ([of_runs, of_servers], mut helps) = (settings(), BTreeMap::<String, String>::new());
    let subcommands = tempograph(&["--help"]);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents {
        let shown = document.strip_prefix(root()).unwrap().display().to_string();
        for command in commands(&std::fs::read_to_string(&document).unwrap()) {
            let Some(words) = call(&command) else { continue };
            let Some(subcommand) = words.first() else { continue };
            seen += 1;
            if subcommand.starts_with('-') {
                continue;
            }
            if !subcommands.lines().any(|line| line.trim_start().split(' ').next() == Some(subcommand)) {
                wrong.push(format!("{shown}: there is no `tempograph {subcommand}`: {command}"));
                continue;
            }
            let help = helps.entry(subcommand.clone()).or_insert_with(|| tempograph(&[subcommand, "--help"]));
            for (at, word) in words.iter().enumerate().skip(1) {
                let flag = word.split('=').next().unwrap();
                if flag.starts_with("--") && !help.contains(flag) {
                    wrong.push(format!("{shown}: `tempograph {subcommand}` takes no {flag}: {command}"));
                }
                if words[at - 1] == "--set" && !word.starts_with('$') {
                    let known = if subcommand == "serve" { &of_servers } else { &of_runs };
                    let key = word.split('=').next().unwrap();
                    if !known.contains(key) {
                        wrong.push(format!("{shown}: there is no setting {key}: {command}"));
                    }
                }
                if word.starts_with("experiments/") && word.ends_with(".toml") && !root().join(word).exists() {
                    wrong.push(format!("{shown}: there is no {word}: {command}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 20, "only {seen} commands were found");
}
