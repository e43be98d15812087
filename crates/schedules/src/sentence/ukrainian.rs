//! Phrases of Ukrainian.

use croner::describe::Language;

use super::slavic;

/// Ukrainian.
#[derive(Clone, Copy)]
pub struct Ukrainian;

impl Language for Ukrainian {
    fn every_minute(&self) -> &'static str {
        "Щохвилини"
    }

    fn every_second_phrase(&self) -> &'static str {
        "Щосекунди"
    }

    fn every_x_minutes(&self, step: u16) -> String {
        format!("{} {step} {}", slavic(step, "кожну", "кожні", "кожні"), slavic(step, "хвилину", "хвилини", "хвилин"))
    }

    fn every_x_seconds(&self, step: u16) -> String {
        format!("{} {step} {}", slavic(step, "кожну", "кожні", "кожні"), slavic(step, "секунду", "секунди", "секунд"))
    }

    fn every_x_hours(&self, step: u16) -> String {
        format!("{} {step} {}", slavic(step, "кожну", "кожні", "кожні"), slavic(step, "годину", "години", "годин"))
    }

    fn every_minute_of_every_x_hours(&self, step: u16) -> String {
        format!("{}, {}", self.every_minute(), self.every_x_hours(step))
    }

    fn at_time(&self, time: &str) -> String {
        format!("О {time}")
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
        format!("у {phrase}")
    }

    fn second_phrase(&self, s: &str) -> String {
        format!("секунди: {s}")
    }

    fn minute_phrase(&self, s: &str) -> String {
        format!("хвилини: {s}")
    }

    fn minute_past_every_hour_phrase(&self, s: &str) -> String {
        format!("{s}, щогодини")
    }

    fn hour_phrase(&self, s: &str) -> String {
        format!("години: {s}")
    }

    fn year_phrase(&self, s: &str) -> String {
        format!("{s} році")
    }

    fn day_phrase(&self, s: &str) -> String {
        format!("числах {s}")
    }

    fn the_last_day_of_the_month(&self) -> &'static str {
        "останніх днях місяця"
    }

    fn the_weekday_nearest_day(&self, day: &str) -> String {
        format!("буднях, найближчих до числа {day}")
    }

    fn the_last_weekday_of_the_month(&self, day: &str) -> String {
        format!("останніх {day} місяця")
    }

    fn the_nth_weekday_of_the_month(&self, n: u8, day: &str) -> String {
        format!("{n}-х {day} місяця")
    }

    fn dom_and_dow_if_also(&self, dow: &str) -> String {
        format!("(якщо вони випадають по {dow})")
    }

    fn dom_and_dow_if_also_one_of(&self, dow: &str) -> String {
        format!("(якщо вони випадають по {dow})")
    }

    fn list_conjunction_and(&self) -> &'static str {
        "і"
    }

    fn list_conjunction_or(&self) -> &'static str {
        "або по"
    }

    fn list_conjunction_and_comma(&self) -> &'static str {
        " і"
    }

    fn day_of_week_names(&self) -> [&'static str; 7] {
        ["неділях", "понеділках", "вівторках", "середах", "четвергах", "п'ятницях", "суботах"]
    }

    fn month_names(&self) -> [&'static str; 12] {
        [
            "січні",
            "лютому",
            "березні",
            "квітні",
            "травні",
            "червні",
            "липні",
            "серпні",
            "вересні",
            "жовтні",
            "листопаді",
            "грудні",
        ]
    }

    fn every_past_phrase(&self, every: &str, hours: &str) -> String {
        format!("{every}, {hours}")
    }

    fn past_hour_phrase(&self, s: &str) -> String {
        self.hour_phrase(s)
    }

    fn every_x_months(&self, step: u16) -> String {
        format!("одному з кожних {step} місяців")
    }

    fn every_x_years(&self, step: u16) -> String {
        format!("одному з кожних {step} років")
    }
}
