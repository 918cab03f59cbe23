//! temporary
fn main() {
    let mut args = std::env::args().skip(1);
    let (source, out) = (args.next().unwrap(), args.next().unwrap());
    let begin = std::time::Instant::now();
    let set = tempograph_framework::prepare(&source, &Default::default(), &mut |_, _| {}).unwrap();
    let read = begin.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let hwm = status.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_string();
    let _ = std::fs::remove_dir_all(&out);
    set.write(&out).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss: Vec<_> = status.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("RssFile")).collect();
    println!("{} events read {read:?} ({hwm}), written {:?} {rss:?}", set.log.len(), begin.elapsed());
}
