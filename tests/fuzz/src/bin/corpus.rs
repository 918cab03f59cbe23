//! Writes the examples of all targets where libFuzzer looks for them: `cargo run --bin corpus`, here.

fn main() -> std::io::Result<()> {
    for target in tempograph_fuzz::TARGETS {
        let folder = std::path::Path::new("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, example) in tempograph_fuzz::examples(target).iter().enumerate() {
            std::fs::write(folder.join(format!("example-{number}")), example)?;
        }
    }
    Ok(())
}
