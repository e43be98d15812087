//! The rules of the pages that need no sound: their modules as they are served, in a real browser.

use serde_json::{Value, json};

use super::{gate, run};
use crate::support::chromium::Chromium;

/// Gives what is not as it should be.
const RULES: &str = r#"
    const { Jitter } = await import("/listen/assets/jitter.js");
    const { parse, active, Place } = await import("/listen/assets/lyrics.js");
    const frame = await import("/listen/assets/frame.js");
    const wrong = [];
    const same = (what, found, wanted) => {
        if (JSON.stringify(found) !== JSON.stringify(wanted)) wrong.push({ what, found, wanted });
    };
    const jitter = new Jitter();
    const arrive = (from, to, late) => { for (let n = from; n < to; n++) jitter.arrived(100 * n + late(n), 100 * n); };
    const settle = (level, times) => { let last; for (let n = 0; n < times; n++) last = jitter.decide(level); return last; };
    jitter.reset(400, 100);
    arrive(0, 400, () => 7);
    same("a steady line needs the least", jitter.target, 300);
    arrive(400, 800, n => n % 10 === 0 ? 600 : 0);
    same("an unsteady line needs more", jitter.target, 910);
    arrive(800, 1200, n => n % 5 === 0 ? 9000 : 0);
    same("but never more than the most", jitter.target, 1500);
    jitter.reset(400, 100);
    same("far too much is left out at once", jitter.decide(3000), { speed: 1, skip: 2600 });
    same("a little too much is played inaudibly faster", settle(500, 40), { speed: 1.005, skip: 0 });
    same("much too much is played faster", settle(1200, 60), { speed: 1.05, skip: 0 });
    same("what is as it should be is left alone", settle(402, 100), { speed: 1, skip: 0 });
    same("too little is played slower", settle(200, 60), { speed: 0.995, skip: 0 });
    jitter.dry();
    same("after it ran dry there is more ahead", jitter.target, 500);

    const words = "[00:12.50][01:00.5]<00:12.50>Two <00:13.00>words";
    const lrc = `\uFEFF[ti:x]\r\n[offset:+500]\r\n${words}\r\n[00:05]First\n[0:20.123]\nno time`;
    const sung = parse(lrc);
    same("lines are sorted, repeated and moved", sung.map(line => [line.seconds, line.text]),
        [[4.5, "First"], [12, "Two words"], [19.623, ""], [60, "Two words"]]);
    same("the line that is sung", [0, 4.5, 13, 999].map(at => active(sung, at)), [-1, 0, 1, 3]);
    const song = { title: "a", elapsedSeconds: 10, totalSeconds: 100, timestamp: 1e12 };
    const place = new Place();
    place.hear(song, 1e15 + 5e6, true);
    same("a host's wrong clock does not matter", place.at(1e15 + 7e6), 12);
    place.hear({ ...song, timestamp: 1e12 + 500 }, 1e15 + 5.5e6, true);
    same("a song that stands still", place.at(1e15 + 60e6), 10);
    const late = new Place();
    late.hear(song, 1e15 + 5e6, false);
    same("a word from before we came", late.at(1e15 + 5e6), 15);

    const written = frame.write({ sequence: 7, sample: 960, discontinuity: true, time: 1e15, packets: [[1, 2], [3]] });
    const { packets, ...head } = frame.read(written.buffer);
    same("what is written is read", [head, packets.map(packet => [...packet])],
        [{ floats: false, discontinuity: true, sequence: 7, time: 1e15, sample: 960 }, [[1, 2], [3]]]);
    same("what is cut is no frame", [...written.keys()].filter(end => frame.read(written.buffer.slice(0, end))), []);
    same("the length of packets", [[0xfc], [0x08], [0x60], [0x80], [0xff, 3], []].map(packet => frame.framesOf(packet)),
        [960, 960, 480, 120, 2880, 0]);

    const { Outbox } = await import("/listen/assets/outbox.js");
    const out = [], line = { open: false, waiting: 0, send: number => out.push(number) };
    const outbox = new Outbox();
    const count = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
    const went = () => out.splice(0);
    count(0, 30).forEach(number => outbox.push(number));
    outbox.flush(line);
    same("nothing goes out without a line", went(), []);
    line.open = true;
    outbox.flush(line);
    same("then the last two seconds do", went(), count(10, 30));
    outbox.broke();
    outbox.push(30);
    outbox.flush(line);
    same("after a break the last second goes once more", went(), count(20, 31));
    line.waiting = 1e6;
    count(31, 41).forEach(number => outbox.push(number));
    outbox.flush(line);
    same("a line that is full gets no more", went(), []);
    line.waiting = 0;
    outbox.flush(line);
    same("until it has sent what it has", went(), count(31, 41));

    const { Chat } = await import("/listen/assets/chat.js");
    // The page's own chat no longer hears this one.
    const panel = element("chat").cloneNode(true);
    element("chat").replaceWith(panel);
    const said = [];
    let there = true;
    const chat = new Chat(message => there && said.push(message) > 0);
    const word = (id, text, more) => ({ type: "chat", id, at: 1e12, name: "<i>Ann</i>", text, ...more });
    chat.greet(undefined);
    same("a server without chat", panel.hidden, true);
    chat.greet({ on: true, last: [word(1, "<b>one</b>"), word(2, "two")] });
    chat.greet({ on: true, last: [word(2, "two"), word(3, "three", { host: true })] });
    const lines = () => [...element("messages").querySelectorAll("p")];
    same("words are text, and come once", lines().map(line => line.lastChild.textContent), ["<b>one</b>", "two", "three"]);
    same("nothing in them is an element", [panel.hidden, panel.querySelectorAll("b, i").length], [false, 0]);
    same("the host is marked", lines().map(line => line.querySelector(".badge")?.textContent ?? ""), ["", "", "host"]);
    const list = element("messages");
    const atEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < 2;
    count(4, 260).forEach(id => chat.hear(word(id, `number ${id}`)));
    same("the last are seen, and so many are kept", [atEnd(), lines().length, element("newer").hidden], [true, 200, true]);
    list.scrollTop = 100;
    const top = () => lines().find(line => line.offsetTop - list.offsetTop >= list.scrollTop - 1).textContent;
    const before = top();
    chat.hear(word(260, "another"));
    same("what is read stays where it is", [top(), element("newer").hidden], [before, false]);
    element("newer").click();
    same("until one goes to the end", [atEnd(), element("newer").hidden], [true, true]);
    element("name").value = " Bea ";
    const speak = what => { element("message").value = what; element("say").requestSubmit(); };
    speak(" hello ");
    same("what one says", [said, element("message").value], [[{ type: "chat", name: "Bea", text: "hello" }], ""]);
    same("the name is remembered", localStorage.getItem("tidegate.name"), "Bea");
    same("a refusal gives the words back", [chat.refused("too fast"), element("message").value,
        element("refusal").textContent], [true, "hello", "Not sent: too fast"]);
    same("and is no matter of the chat otherwise", chat.refused("something else"), false);
    there = false;
    speak("hello");
    same("without a line nothing is lost", [element("message").value, element("refusal").hidden], ["hello", false]);
    chat.hear({ type: "chat", on: false });
    same("a chat that is off is not seen", panel.hidden, true);
    return wrong;
"#;

#[tokio::test]
async fn the_rules_of_the_listen_page_hold() {
    let Some(browser) = Chromium::start().await else { return };
    let gate = gate().await;
    browser.open(&format!("{}/listen/000000", gate.url())).await;
    assert_eq!(run(&browser, RULES).await, json!([]));
    let said = run(&browser, r#"await state("denied"); return null;"#).await;
    assert_eq!(said, Value::Null);
    browser.close().await;
}
