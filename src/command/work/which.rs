//! Which shard a worker has: as it was told, or as the engine says that started it.

use calve_migrate::shard::Shard;
use calve_plan::MOST_SHARDS;

use crate::exit::Failure;

/// The shard that was asked for (`I/N`), or that the variables of a Slurm array or of an Indexed
/// Job of Kubernetes name; `count` is how many there are, where that was said by itself.
pub(super) fn shard(
    asked: Option<&str>,
    count: Option<u64>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Shard, Failure> {
    let shard = match (asked, variable(SLURM), variable(KUBERNETES)) {
        (Some(asked), ..) => of_words(asked)?,
        (None, Some(_), Some(_)) => {
            let text = format!("{SLURM} and {KUBERNETES} are both set");
            return Err(Failure::usage(text).next("say --shard I/N"));
        }
        (None, Some(id), None) => of_array(&id, count, variable)?,
        (None, None, Some(index)) => {
            let index = number(KUBERNETES, &index)?;
            let missing = || {
                Failure::usage(format!("{KUBERNETES} does not say how many shards there are"))
                    .next("say --shards COUNT, the same as the Job's completions")
            };
            Shard { index, count: count.ok_or_else(missing)? }
        }
        (None, None, None) => {
            let text = format!("no shard: neither {SLURM} nor {KUBERNETES} is set");
            return Err(Failure::usage(text).next("say --shard I/N"));
        }
    };
    if !(1..=MOST_SHARDS).contains(&shard.count) || shard.index >= shard.count {
        let Shard { index, count } = shard;
        let text = format!("there is no shard {index} of {count}: they are numbered from 0");
        return Err(Failure::usage(text).next(format!("at most {MOST_SHARDS} there may be")));
    }
    Ok(shard)
}

const SLURM: &str = "SLURM_ARRAY_TASK_ID";
const KUBERNETES: &str = "JOB_COMPLETION_INDEX";

fn of_words(asked: &str) -> Result<Shard, Failure> {
    let (index, count) = asked.split_once('/').ok_or_else(|| {
        Failure::usage(format!("--shard: '{asked}' is not I/N, as 0/4 is the first of four"))
    })?;
    Ok(Shard { index: number("--shard", index)?, count: number("--shard", count)? })
}

/// The shard of a task of an array. With a count the task's own number is the shard, so that one
/// of them can be started alone; else the place that it has in the array.
fn of_array(
    id: &str,
    count: Option<u64>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Shard, Failure> {
    let id = number(SLURM, id)?;
    if let Some(count) = count {
        return Ok(Shard { index: id, count });
    }
    let of = |name: &str, otherwise: u64| match variable(name) {
        Some(text) => number(name, &text),
        None => Ok(otherwise),
    };
    let (count, step) = (of("SLURM_ARRAY_TASK_COUNT", 0)?, of("SLURM_ARRAY_TASK_STEP", 1)?.max(1));
    let behind = id.checked_sub(of("SLURM_ARRAY_TASK_MIN", 0)?);
    let index = behind.filter(|behind| behind % step == 0).map(|behind| behind / step);
    match index.filter(|index| *index < count) {
        Some(index) => Ok(Shard { index, count }),
        None => Err(Failure::usage(format!("task {id} has no place in an array of {count}"))
            .next("let the array have no gaps, or say --shards COUNT")),
    }
}

fn number(what: &str, text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("{what}: '{text}' is no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        asked: Option<&str>,
        count: Option<u64>,
        set: &[(&str, &str)],
    ) -> Result<(u64, u64), String> {
        let variable = |name: &str| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let shard = shard(asked, count, &variable).map_err(|failure| failure.text)?;
        Ok((shard.index, shard.count))
    }

    #[test]
    fn what_is_asked_for_comes_before_what_an_engine_says() {
        assert_eq!(found(Some("1/4"), None, &[(SLURM, "3"), (KUBERNETES, "2")]), Ok((1, 4)));
        for wrong in ["4/4", "0/0", "1", "a/4", "-1/4", "1/4/2", "0/100001"] {
            assert!(found(Some(wrong), None, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_task_of_an_array_is_counted_from_its_first() {
        let array = |id, min, count, step| {
            found(
                None,
                None,
                &[
                    (SLURM, id),
                    ("SLURM_ARRAY_TASK_MIN", min),
                    ("SLURM_ARRAY_TASK_COUNT", count),
                    ("SLURM_ARRAY_TASK_STEP", step),
                ],
            )
        };
        assert_eq!(array("0", "0", "4", "1"), Ok((0, 4)));
        assert_eq!(array("4", "1", "4", "1"), Ok((3, 4)));
        assert_eq!(array("7", "1", "4", "2"), Ok((3, 4)));
        // 0,2,5: nobody knows which place 5 has.
        assert!(array("5", "0", "3", "1").is_err());
        assert!(array("0", "1", "4", "1").is_err());
        assert!(found(None, None, &[(SLURM, "0")]).is_err());
        // One that is started again alone.
        assert_eq!(found(None, Some(4), &[(SLURM, "3")]), Ok((3, 4)));
        assert!(found(None, Some(4), &[(SLURM, "4")]).is_err());
    }

    #[test]
    fn a_job_says_the_index_and_somebody_else_the_count() {
        assert_eq!(found(None, Some(4), &[(KUBERNETES, "2")]), Ok((2, 4)));
        assert!(found(None, None, &[(KUBERNETES, "2")]).is_err());
        assert!(found(None, Some(4), &[]).is_err());
        assert!(found(None, Some(4), &[(KUBERNETES, "2"), (SLURM, "2")]).is_err());
    }
}
