//! Phrases of Russian.

use croner::describe::Language;

use super::slavic;

/// Russian.
#[derive(Clone, Copy)]
pub struct Russian;

impl Language for Russian {
    fn every_minute(&self) -> &'static str {
        "Каждую минуту"
    }

    fn every_second_phrase(&self) -> &'static str {
        "Каждую секунду"
    }

    fn every_x_minutes(&self, step: u16) -> String {
        format!("{} {step} {}", slavic(step, "каждую", "каждые", "каждые"), slavic(step, "минуту", "минуты", "минут"))
    }

    fn every_x_seconds(&self, step: u16) -> String {
        format!(
            "{} {step} {}",
            slavic(step, "каждую", "каждые", "каждые"),
            slavic(step, "секунду", "секунды", "секунд")
        )
    }

    fn every_x_hours(&self, step: u16) -> String {
        format!("{} {step} {}", slavic(step, "каждый", "каждые", "каждые"), slavic(step, "час", "часа", "часов"))
    }

    fn every_minute_of_every_x_hours(&self, step: u16) -> String {
        format!("{}, {}", self.every_minute(), self.every_x_hours(step))
    }

    fn at_time(&self, time: &str) -> String {
        format!("В {time}")
    }

    fn at_time_and_every_x_seconds(&self, time: &str, step: u16) -> String {
        format!("{}, {}", self.at_time(time), self.every_x_seconds(step))
    }

    fn at_time_at_second(&self, time: &str, second: &str) -> String {
        format!("{}, {}", self.at_time(time), self.second_phrase(second))
    }

    fn at_phrase(&self, phrase: &str) -> String {
        phrase.to_owned()
    }

    fn on_phrase(&self, phrase: &str) -> String {
        format!("по {phrase}")
    }

    fn in_phrase(&self, phrase: &str) -> String {
        format!("в {phrase}")
    }

    fn second_phrase(&self, s: &str) -> String {
        format!("секунды: {s}")
    }

    fn minute_phrase(&self, s: &str) -> String {
        format!("минуты: {s}")
    }

    fn minute_past_every_hour_phrase(&self, s: &str) -> String {
        format!("{s}, каждый час")
    }

    fn hour_phrase(&self, s: &str) -> String {
        format!("часы: {s}")
    }

    fn year_phrase(&self, s: &str) -> String {
        format!("{s} году")
    }

    fn day_phrase(&self, s: &str) -> String {
        format!("числам {s}")
    }

    fn the_last_day_of_the_month(&self) -> &'static str {
        "последним дням месяца"
    }

    fn the_weekday_nearest_day(&self, day: &str) -> String {
        format!("будням, ближайшим к числу {day}")
    }

    fn the_last_weekday_of_the_month(&self, day: &str) -> String {
        format!("последним {day} месяца")
    }

    fn the_nth_weekday_of_the_month(&self, n: u8, day: &str) -> String {
        format!("{n}-м {day} месяца")
    }

    fn dom_and_dow_if_also(&self, dow: &str) -> String {
        format!("(если они выпадают по {dow})")
    }

    fn dom_and_dow_if_also_one_of(&self, dow: &str) -> String {
        format!("(если они выпадают по {dow})")
    }

    fn list_conjunction_and(&self) -> &'static str {
        "и"
    }

    fn list_conjunction_or(&self) -> &'static str {
        "или по"
    }

    fn list_conjunction_and_comma(&self) -> &'static str {
        " и"
    }

    fn day_of_week_names(&self) -> [&'static str; 7] {
        ["воскресеньям", "понедельникам", "вторникам", "средам", "четвергам", "пятницам", "субботам"]
    }

    fn month_names(&self) -> [&'static str; 12] {
        [
            "январе",
            "феврале",
            "марте",
            "апреле",
            "мае",
            "июне",
            "июле",
            "августе",
            "сентябре",
            "октябре",
            "ноябре",
            "декабре",
        ]
    }

    fn every_past_phrase(&self, every: &str, hours: &str) -> String {
        format!("{every}, {hours}")
    }

    fn past_hour_phrase(&self, s: &str) -> String {
        self.hour_phrase(s)
    }

    fn every_x_months(&self, step: u16) -> String {
        format!("одном из каждых {step} месяцев")
    }

    fn every_x_years(&self, step: u16) -> String {
        format!("одном из каждых {step} лет")
    }
}
