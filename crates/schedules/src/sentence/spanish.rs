//! Phrases of Spanish.

use croner::describe::Language;

/// Spanish.
#[derive(Clone, Copy)]
pub struct Spanish;

impl Language for Spanish {
    fn every_minute(&self) -> &'static str {
        "Cada minuto"
    }

    fn every_second_phrase(&self) -> &'static str {
        "Cada segundo"
    }

    fn every_x_minutes(&self, step: u16) -> String {
        format!("cada {step} minutos")
    }

    fn every_x_seconds(&self, step: u16) -> String {
        format!("cada {step} segundos")
    }

    fn every_x_hours(&self, step: u16) -> String {
        format!("cada {step} horas")
    }

    fn every_minute_of_every_x_hours(&self, step: u16) -> String {
        format!("{}, {}", self.every_minute(), self.every_x_hours(step))
    }

    fn at_time(&self, time: &str) -> String {
        format!("A las {time}")
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
        phrase.to_owned()
    }

    fn in_phrase(&self, phrase: &str) -> String {
        format!("en {phrase}")
    }

    fn second_phrase(&self, s: &str) -> String {
        format!("segundos: {s}")
    }

    fn minute_phrase(&self, s: &str) -> String {
        format!("minutos: {s}")
    }

    fn minute_past_every_hour_phrase(&self, s: &str) -> String {
        format!("{s}, cada hora")
    }

    fn hour_phrase(&self, s: &str) -> String {
        format!("horas: {s}")
    }

    fn year_phrase(&self, s: &str) -> String {
        s.to_string()
    }

    fn day_phrase(&self, s: &str) -> String {
        if s.bytes().all(|byte| byte.is_ascii_digit()) { format!("el día {s}") } else { format!("los días {s}") }
    }

    fn the_last_day_of_the_month(&self) -> &'static str {
        "el último día del mes"
    }

    fn the_weekday_nearest_day(&self, day: &str) -> String {
        format!("el día laborable más cercano al día {day}")
    }

    fn the_last_weekday_of_the_month(&self, day: &str) -> String {
        format!("el último {} del mes", singular(day))
    }

    fn the_nth_weekday_of_the_month(&self, n: u8, day: &str) -> String {
        format!("el {n}.º {} del mes", singular(day))
    }

    fn dom_and_dow_if_also(&self, dow: &str) -> String {
        format!("(si caen en {dow})")
    }

    fn dom_and_dow_if_also_one_of(&self, dow: &str) -> String {
        format!("(si caen en {dow})")
    }

    fn list_conjunction_and(&self) -> &'static str {
        "y"
    }

    fn list_conjunction_or(&self) -> &'static str {
        "o"
    }

    fn list_conjunction_and_comma(&self) -> &'static str {
        " y"
    }

    fn day_of_week_names(&self) -> [&'static str; 7] {
        ["los domingos", "los lunes", "los martes", "los miércoles", "los jueves", "los viernes", "los sábados"]
    }

    fn month_names(&self) -> [&'static str; 12] {
        [
            "enero",
            "febrero",
            "marzo",
            "abril",
            "mayo",
            "junio",
            "julio",
            "agosto",
            "septiembre",
            "octubre",
            "noviembre",
            "diciembre",
        ]
    }

    fn every_past_phrase(&self, every: &str, hours: &str) -> String {
        format!("{every}, {hours}")
    }

    fn past_hour_phrase(&self, s: &str) -> String {
        self.hour_phrase(s)
    }

    fn every_x_months(&self, step: u16) -> String {
        format!("uno de cada {step} meses")
    }

    fn every_x_years(&self, step: u16) -> String {
        format!("uno de cada {step} años")
    }
}

/// Returns the days of a list as one of each.
fn singular(days: &str) -> String {
    days.replace("los ", "").replace("domingos", "domingo").replace("sábados", "sábado")
}
