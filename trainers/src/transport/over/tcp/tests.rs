#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Instant;

use proptest::prelude::*;

use crate::transport::launch::Rendezvous;
use crate::transport::over::tcp::*;
use crate::{SingleProcess, check_same_hash};

/// A meeting of this test's own.
fn rendezvous() -> Rendezvous {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Rendezvous::Address { host: "127.0.0.1".into(), port }
}

fn launch(rank: usize, world: usize, rendezvous: &Rendezvous) -> Launch {
    Launch { rank, world, local_rank: rank, local_world: world, rendezvous: rendezvous.clone() }
}

/// Does `work` in `world` processes that are threads here.
fn among<T: Send>(world: usize, work: impl Fn(MeshExchange<Tcp>) -> T + Sync) -> Vec<T> {
    let rendezvous = rendezvous();
    thread::scope(|scope| {
        let run = |rank| {
            let (work, rendezvous) = (&work, &rendezvous);
            scope.spawn(move || {
                work(MeshExchange(
                    Tcp::connect(&launch(rank, world, rendezvous), "a run", Duration::from_secs(20)).unwrap(),
                ))
            })
        };
        let running: Vec<_> = (0..world).map(run).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// As a kill does: no word, and the system closes the connections.
fn die(exchange: MeshExchange<Tcp>) {
    let writers = exchange.0.writers.clone();
    writers.iter().flatten().for_each(|writer| writer.lock().unwrap().shutdown(std::net::Shutdown::Both).unwrap());
    std::mem::forget(exchange);
}

/// Numbers of all sizes, so that the order in which they are added shows.
fn lanes(count: usize, size: usize, seed: u64) -> Vec<Vec<f32>> {
    let number = |lane: usize, i: usize| {
        let bits = (seed ^ (lane as u64) << 32 ^ i as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((bits >> 40) as f32 / 1e6 - 8.0) * 10f32.powi((bits % 9) as i32 - 4)
    };
    (0..count).map(|lane| (0..size).map(|i| number(lane, i)).collect()).collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn sums_are_those_of_one_process_to_the_bit_wherever_lanes_are(world in 1usize..5, each in 1usize..4, size in 0usize..40, seed: u64) {
        let all = lanes(world * each, size, seed);
        let all: Vec<&[f32]> = all.iter().map(|lane| &lane[..]).collect();
        let mut alone = vec![f32::NAN; size];
        SingleProcess.all_reduce(&all, &mut alone).unwrap();
        let sums = among(world, |mut exchange| {
            let mut total = vec![f32::NAN; size];
            exchange.all_reduce(&all[exchange.rank() * each..][..each], &mut total).unwrap();
            total
        });
        for sum in sums {
            prop_assert_eq!(bits(&sum), bits(&alone));
        }
    }
}

#[test]
fn large_sums_pass_all_at_once() {
    let all = lanes(3, 2_000_003, 5);
    let all: Vec<&[f32]> = all.iter().map(|lane| &lane[..]).collect();
    let mut alone = vec![0.0; all[0].len()];
    SingleProcess.all_reduce(&all, &mut alone).unwrap();
    let sums = among(3, |mut exchange| {
        let mut total = vec![0.0; all[0].len()];
        exchange.all_reduce(&[all[exchange.rank()]], &mut total).unwrap();
        total
    });
    assert!(sums.iter().all(|sum| bits(sum) == bits(&alone)));
}

#[test]
fn an_all_gather_arrives_in_order_and_stays_within_its_group() {
    let heard = among(4, |mut exchange| {
        let rank = exchange.rank();
        let group = rank / 2 * 2..rank / 2 * 2 + 2;
        let own = vec![rank as u8; rank * 1000];
        (exchange.all_gather(group, &own).unwrap(), exchange.all_gather(0..4, &[rank as u8]).unwrap())
    });
    for (rank, (group, all)) in heard.into_iter().enumerate() {
        let first = rank / 2 * 2;
        assert_eq!(group, [first, first + 1].map(|peer| vec![peer as u8; peer * 1000]));
        assert_eq!(all, [0, 1, 2, 3].map(|peer| vec![peer]));
    }
}

#[test]
fn a_gather_reaches_the_first_process_only() {
    let gathered = among(3, |mut exchange| {
        let rank = exchange.rank();
        exchange.gather(vec![rank as u8; rank + 1]).unwrap()
    });
    assert_eq!(gathered, [vec![vec![0], vec![1, 1], vec![2, 2, 2]], vec![], vec![]]);
}

#[test]
fn processes_with_other_weights_than_most_are_named_on_every_process_and_all_where_there_are_no_most() {
    let cases = [
        (&[0u8, 0, 1][..], "the weights of process 2 differ from those of the other 2"),
        (&[1, 0, 0], "the weights of process 0 differ from those of the other 2"),
        (&[1, 0, 0, 2, 0], "the weights of processes 0, 3 differ from those of the other 3"),
        (&[0, 1], "the weights of process 0 and of process 1 differ"),
        (&[0, 1, 1, 0], "the weights of processes 0, 3 and of processes 1, 2 differ"),
    ];
    for (hashes, expected) in cases {
        let errors = among(hashes.len(), |mut exchange| {
            let hash = [hashes[exchange.rank()]; 32];
            check_same_hash(&mut exchange, &hash, 70).unwrap_err().to_string()
        });
        assert!(errors.iter().all(|error| error.contains(expected) && error.contains("after step 70")), "{errors:?}");
    }
    among(3, |mut exchange| check_same_hash(&mut exchange, &[7; 32], 70).unwrap());
}

#[test]
fn a_process_that_dies_is_named_by_all_others_at_once() {
    let began = Instant::now();
    let errors = among(4, |mut exchange| {
        // Who is slow may hear of the death before it has heard from everybody.
        let heard = exchange.all_gather(0..4, b"here");
        if exchange.rank() == 2 {
            heard.unwrap();
            die(exchange);
            return None;
        }
        Some(heard.and_then(|_| exchange.all_reduce(&[&[1.0; 100]], &mut [0.0; 100])).unwrap_err().to_string())
    });
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let errors: Vec<String> = errors.into_iter().flatten().collect();
    assert_eq!(errors.len(), 3);
    assert!(errors.iter().all(|error| error.contains("process 2 of 4 is gone")), "{errors:?}");
}

#[test]
fn a_process_that_dies_while_all_tell_the_first_something_is_named_by_all_others() {
    for dead in 0..3 {
        let errors = among(3, |mut exchange| {
            let heard = exchange.all_gather(0..3, b"here");
            if exchange.rank() == dead {
                heard.unwrap();
                die(exchange);
                return None;
            }
            // A process that has sent to the first may learn of the death only when it waits for all.
            let gathered = heard.and_then(|_| exchange.gather(vec![1; 1 << 20]));
            Some(gathered.and_then(|_| exchange.all_gather(0..3, b"there")).unwrap_err().to_string())
        });
        let errors: Vec<String> = errors.into_iter().flatten().collect();
        assert_eq!(errors.len(), 2);
        assert!(errors.iter().all(|error| error.contains(&format!("process {dead} of 3 is gone"))), "{errors:?}");
    }
}

/// As [`PEER_TIMEOUT`], but shorter; for all of `exchange`, which have met.
fn with_patience_of(patience: Duration, exchange: &mut MeshExchange<Tcp>) {
    let writers = exchange.0.writers.clone();
    writers.iter().flatten().for_each(|writer| writer.lock().unwrap().set_read_timeout(Some(patience)).unwrap());
    // Who reads already does so with the patience of before: until a message comes that was sent when all had got
    // theirs.
    let world = exchange.world();
    (0..2).for_each(|_| drop(exchange.all_gather(0..world, b"here").unwrap()));
}

#[test]
fn a_process_that_gives_no_sign_of_life_is_taken_for_dead() {
    let messages = among(2, |mut exchange| {
        with_patience_of(Duration::from_millis(2500), &mut exchange);
        if exchange.rank() == 1 {
            // As one that is suspended: the connections stay open.
            exchange.0._beating = channel().0;
            while exchange.0.inbox.next_message_from(0).is_ok() {}
            return String::new();
        }
        exchange.all_gather(0..2, b"").unwrap_err().to_string()
    });
    assert!(messages[0].contains("process 1 of 2 is gone (no sign of life"), "{messages:?}");
}

#[test]
fn a_process_that_computes_for_long_is_waited_for() {
    let heard = among(2, |mut exchange| {
        with_patience_of(Duration::from_millis(2500), &mut exchange);
        if exchange.rank() == 1 {
            thread::sleep(Duration::from_millis(4000));
        }
        exchange.all_gather(0..2, b"").map(|messages| messages.len())
    });
    assert!(heard.iter().all(|heard| matches!(heard, Ok(2))), "{heard:?}");
}

#[test]
fn a_process_that_stops_says_why_to_all() {
    let errors = among(3, |mut exchange| {
        if exchange.rank() == 0 {
            exchange.stop("no space left on device");
            return None;
        }
        Some(exchange.all_gather(0..3, b"").unwrap_err().to_string())
    });
    let errors: Vec<String> = errors.into_iter().flatten().collect();
    assert!(
        errors.iter().all(|error| error.contains("process 0 of 3") && error.contains("no space left on device")),
        "{errors:?}"
    );
}

#[test]
fn a_finished_process_may_leave_while_others_continue() {
    let heard = among(3, |mut exchange| {
        let all = exchange.all_gather(0..3, &[7]).unwrap();
        match exchange.rank() {
            2 => all.len(),
            // These two have more to say to each other, and are not stopped by the third's leaving.
            _ => {
                thread::sleep(Duration::from_millis(50));
                exchange.all_gather(0..2, &[8]).unwrap().len()
            }
        }
    });
    assert_eq!(heard, [2, 2, 3]);
}

#[test]
fn processes_of_different_runs_do_not_train_together() {
    let rendezvous = rendezvous();
    let meet = |rank, run| {
        Tcp::connect(&launch(rank, 2, &rendezvous), run, Duration::from_secs(20)).map(|_| ()).unwrap_err().to_string()
    };
    let errors = thread::scope(|scope| {
        [scope.spawn(|| meet(0, "this")), scope.spawn(|| meet(1, "that"))].map(|one| one.join().unwrap())
    });
    assert!(errors.iter().all(|error| error.contains("process 1 has another spec")), "{errors:?}");
}

#[test]
fn a_process_that_does_not_come_is_named_when_patience_ends() {
    let rendezvous = rendezvous();
    let meet = |rank| {
        Tcp::connect(&launch(rank, 3, &rendezvous), "a run", Duration::from_secs(1))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let [first, second] =
        thread::scope(|scope| [scope.spawn(|| meet(0)), scope.spawn(|| meet(2))].map(|one| one.join().unwrap()));
    assert!(first.contains("process 1 of 3 did not come within 1 s"), "{first}");
    assert!(second.contains("process 0"), "{second}");
}

#[test]
fn processes_on_one_machine_can_meet_in_a_file() {
    let path: PathBuf = std::env::temp_dir().join(format!("tempograph-rendezvous-{}.port", std::process::id()));
    // What an earlier run left behind does no harm.
    std::fs::write(&path, "1").unwrap();
    let rendezvous = Rendezvous::File(path.clone());
    let ranks = thread::scope(|scope| {
        let run = |rank| {
            let rendezvous = &rendezvous;
            scope.spawn(move || {
                connect_tcp(&launch(rank, 3, rendezvous), "a run", Duration::from_secs(20))
                    .unwrap()
                    .all_gather(0..3, &[rank as u8])
                    .unwrap()
            })
        };
        let running: Vec<_> = (0..3).map(run).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(ranks.iter().all(|heard| *heard == [[0], [1], [2]]));
    assert!(!path.exists());
}

#[test]
fn a_stranger_who_calls_is_not_let_in() {
    let rendezvous = rendezvous();
    let Rendezvous::Address { port, .. } = rendezvous else { unreachable!() };
    let met = thread::scope(|scope| {
        let run = |rank| {
            let rendezvous = &rendezvous;
            scope.spawn(move || {
                Tcp::connect(&launch(rank, 2, rendezvous), "a run", Duration::from_secs(20)).map(|tcp| tcp.world())
            })
        };
        let first = run(0);
        let stranger = std::iter::repeat_with(|| TcpStream::connect(("127.0.0.1", port))).find_map(Result::ok).unwrap();
        std::io::Write::write_all(&mut &stranger, b"GET / HTTP/1.1\r\n\r\n\n").unwrap();
        let second = run(1);
        [first.join().unwrap(), second.join().unwrap()]
    });
    assert!(met.iter().all(|world| *world.as_ref().unwrap() == 2));
}
