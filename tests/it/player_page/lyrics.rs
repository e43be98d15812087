//! Lyrics on the page: of the real module, from files beside the tracks, against what is heard.

use serde_json::{Value, json};

use super::{Room, write};
use crate::player_sound::{MEASURES, TAP};

/// Ten lines, each a second long, with the time of its second word.
fn lines() -> String {
    (0..10).map(|n| format!("[00:0{n}.50]<00:0{n}.50>Line <00:0{n}.90>{n}\n")).collect()
}

/// Opens the page with lyrics beside Вітер, whose sound changes where a line begins, and none beside the other tracks.
async fn with_lyrics() -> Option<Room> {
    let room = Room::open(|config| config["Lyrics"] = json!({})).await?;
    write(&room.folder, "Мар’яна Гай/Степ/01 Вітер.lrc", format!("[la:en]\n{}", lines()).as_bytes());
    room.browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": TAP })).await;
    room.visit("ada").await;
    Some(room)
}

#[tokio::test]
async fn a_line_is_marked_within_a_tenth_of_a_second_of_its_sound() {
    let Some(room) = with_lyrics().await else { return };
    // A line's mark against the sample at which its tone begins, as the device gives it; all by the clock of the sound.
    let script = r#"
        await plays("Вітер");
        element("show-lyrics").click();
        await until("lines", () => element("lines")?.children.length === 10);
        const marked = [];
        new MutationObserver(changes => changes.forEach(({ target, oldValue }) => {
            const line = [...element("lines").children].indexOf(target);
            if (oldValue === null && target.hasAttribute("aria-current")) marked.push({ line, at: tap.context.currentTime });
        })).observe(element("lines"), { subtree: true, attributes: true, attributeOldValue: true, attributeFilter: ["aria-current"] });
        const late = [], seen = new Set();
        const measure = async ({ line, at }) => {
            await until("what is after it", () => tap.context.currentTime - at > 0.3);
            const all = samples(), now = tap.context.currentTime, hertz = line % 2 ? 440 : 880;
            for (let n = 0; n + 512 < all.length; n += 64) {
                if (amplitude(all, n, hertz) < 0.2) continue;
                // What was there from the first sample on began before.
                if (n > 0) late.push(at - (now - (all.length - n) / tap.context.sampleRate) - tap.context.baseLatency - (tap.context.outputLatency || 0));
                return;
            }
        };
        await until("seven lines", async () => {
            const next = marked.find(({ line }) => !seen.has(line));
            if (next) { seen.add(next.line); await measure(next); }
            return seen.size >= 7;
        });
        return late.map(Math.abs).sort((one, other) => one - other);
    "#;
    let late = room.run(&format!("{MEASURES}{script}")).await;
    let late: Vec<f64> = late.as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    assert!(late.len() >= 4, "{late:?}");
    // The median: one frame of a busy machine may come late.
    assert!(late[late.len() / 2] < 0.1, "{late:?}");
    room.browser.close().await;
}

#[tokio::test]
async fn a_click_on_a_line_seeks_and_its_words_are_marked() {
    let Some(room) = with_lyrics().await else { return };
    let script = r#"
        await plays("Вітер");
        element("show-lyrics").click();
        await until("lines", () => element("lines")?.children.length === 10);
        slide("seek", 30);
        await until("the last line", () => audio.currentTime > 30 && element("lines").children[9].hasAttribute("aria-current"));
        element("lines").children[1].querySelector("button").click();
        await until("the second line", () => audio.currentTime < 2.6 && element("lines").children[1].hasAttribute("aria-current"));
        const words = element("lines").children[1].querySelectorAll("[data-word]");
        await until("its words", () => element("lines").children[1].querySelectorAll(".sung").length === 2 || audio.currentTime > 2.5);
        return [[...words].map(word => word.textContent), element("lines").lang];
    "#;
    assert_eq!(room.run(script).await, json!([["Line ", "1"], "en"]));
    let none = r#"await plays("Low Tide"); return await until("words", () => document.querySelector(".side h3")?.textContent);"#;
    assert_eq!(room.run(none).await, json!("No lyrics for this track"));
    room.browser.close().await;
}

#[tokio::test]
async fn lyrics_that_cannot_be_loaded_are_asked_for_again() {
    let Some(room) = with_lyrics().await else { return };
    // The server's own failure has to be provoked.
    let script = r#"
        const ask = window.fetch;
        window.fetch = (path, ...rest) => String(path).includes("/lyrics/") ? Promise.resolve(new Response("{}", { status: 503 })) : ask(path, ...rest);
        await plays("Вітер");
        element("show-lyrics").click();
        await until("a notice", () => document.querySelector(".side [role=alert] button"));
        window.fetch = ask;
        document.querySelector(".side [role=alert] button").click();
        return await until("lines", () => element("lines")?.children.length);
    "#;
    assert_eq!(room.run(script).await, json!(10));
    room.browser.close().await;
}

#[tokio::test]
async fn translations_and_pronunciations_are_shown_below_their_lines_where_they_are_wanted() {
    let Some(room) = with_lyrics().await else { return };
    let folder = "Мар’яна Гай/Степ";
    // The translation has no sixth line, and its times are a little off; the pronunciation stops at the fourth.
    let translated: String = (0..10).filter(|n| *n != 5).map(|n| format!("[00:0{n}.60]Рядок {n}\n")).collect();
    let pronounced: String = (0..4).map(|n| format!("[00:0{n}.50]Lajn {n}\n")).collect();
    write(&room.folder, &format!("{folder}/01 Вітер.uk.lrc"), translated.as_bytes());
    write(&room.folder, &format!("{folder}/01 Вітер.en-Latn.pronunciation.lrc"), pronounced.as_bytes());
    let script = r#"
        await plays("Вітер");
        element("show-lyrics").click();
        await until("lines", () => element("lines")?.children.length === 10);
        const boxes = () => [...document.querySelectorAll(".other-lyrics label")];
        const below = n => [...element("lines").children[n].querySelectorAll(".below")].map(node => `${node.lang} ${node.textContent}`).join();
        const names = boxes().map(label => label.textContent.trim()).sort();
        const before = below(1);
        boxes().find(label => label.textContent.includes("Translation")).querySelector("input").click();
        await until("the translation", () => below(1));
        const seen = [below(1), below(5), below(9)];
        boxes().find(label => label.textContent.includes("Pronunciation")).querySelector("input").click();
        await until("the pronunciation", () => below(1).includes("Lajn"));
        // A click seeks still, and a line is marked still.
        element("lines").children[8].querySelector("button").click();
        await until("the ninth line", () => element("lines").children[8].hasAttribute("aria-current"));
        return [names, before, ...seen, below(1).split(",").sort().join()];
    "#;
    let seen = json!([
        ["Pronunciation: English (Latin)", "Translation: Ukrainian"],
        "",
        "uk Рядок 1",
        "",
        "uk Рядок 9",
        "en-Latn Lajn 1,uk Рядок 1"
    ]);
    assert_eq!(room.run(script).await, seen);
    room.open_page().await;
    let again = r#"
        await plays("Вітер");
        element("show-lyrics").click();
        await until("lines", () => element("lines")?.children.length === 10);
        return [element("lines").querySelectorAll(".below").length, document.querySelectorAll(".other-lyrics :checked").length];
    "#;
    assert_eq!(room.run(again).await, json!([13, 2]), "it is remembered");
    room.browser.close().await;
}

#[tokio::test]
async fn the_offset_of_the_lyrics_is_changed_by_its_buttons_and_remembered_for_the_track() {
    let Some(room) = with_lyrics().await else { return };
    let script = r#"
        await plays("Вітер");
        element("show-lyrics").click();
        await until("lines", () => element("lines")?.children.length === 10);
        element("play").click();
        await state("paused");
        const shown = () => document.querySelector(".offset output").textContent;
        const line = () => [...element("lines").children].findIndex(one => one.hasAttribute("aria-current"));
        slide("seek", 3.4);
        await until("the third line", () => line() === 2);
        const seen = [shown()];
        for (let n = 0; n < 5; n++) element("lyrics-earlier").click();
        await until("the fourth line, which begins at 3.5", () => line() === 3);
        seen.push(shown());
        for (let n = 0; n < 7; n++) element("lyrics-later").click();
        await until("the third line again", () => line() === 2);
        seen.push(shown());
        // A click on a line goes to where it is heard.
        element("lines").children[5].querySelector("button").click();
        await until("its place", () => Math.abs(audio.currentTime - 5.7) < 0.01);
        element("play").click();
        await until("the sixth line", () => line() === 5);
        return seen;
    "#;
    assert_eq!(room.run(script).await, json!(["0.0 s", "0.5 s", "-0.2 s"]));
    room.open_page().await;
    let again = r#"
        await plays("Вітер");
        element("show-lyrics").click();
        return await until("the offset", () => document.querySelector(".offset output")?.textContent);
    "#;
    assert_eq!(room.run(again).await, json!("-0.2 s"));
    room.browser.close().await;
}
