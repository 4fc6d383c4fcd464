//! Runs one input of a target, such as libFuzzer leaves where something does not hold:
//! `cargo run -p calve-fuzzing --example repeat TARGET FILE`. `TARGET NUMBER CHANGE` instead of a
//! file is the input of the seeded tests, and a further word the file that it is written to.

use calve_fuzzing::{changing, targets};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (target, data) = match words[..] {
        [name, file] => {
            (targets::named(name), std::fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}")))
        }
        [name, number, change, ref rest @ ..] => {
            let target = targets::named(name);
            let number = number.parse().expect("a number");
            let changes = change.parse().expect("a number");
            let data = changing(target.kind, number).nth(changes).expect("there is one more");
            for file in rest {
                std::fs::write(file, &data).unwrap_or_else(|error| panic!("{file}: {error}"));
            }
            (target, data)
        }
        _ => panic!("TARGET FILE, or TARGET NUMBER CHANGE [FILE]"),
    };
    (target.run)(&data);
}
