//! The queue: the order in which it is heard, and its tools on the page.

use serde_json::json;

use super::Room;

/// Rules of the queue, by its own script: each fault is told.
const RULES: &str = r#"
    const { Queue } = await import("/player/assets/queue.js");
    const faults = [];
    const is = (what, found, wanted) => { if (JSON.stringify(found) !== JSON.stringify(wanted)) faults.push([what, found, wanted]); };
    const tracks = [..."abcdefgh"].map(id => ({ id, title: id, artist: null, album: null }));
    const queueAt = index => { const queue = new Queue(() => {}); queue.replace(tracks, index); return queue; };
    const walk = (queue, by, most = 99) => { const ids = []; while (ids.length < most && queue.step(by)) ids.push(queue.current.id); return ids; };
    const orders = new Set();
    for (let n = 0; n < 40; n++) {
        const queue = queueAt(2);
        queue.toggleShuffle();
        const heard = ["c", ...walk(queue, 1)];
        orders.add(heard.join(""));
        is("each once", [...heard].sort(), [..."abcdefgh"]);
        is("back", walk(queue, -1), heard.slice(0, -1).reverse());
        // Rounds follow each other, each with all of them, and nothing twice in a row.
        queue.toggleRepeat();
        const rounds = [queue.current.id, ...walk(queue, 1, 23)];
        for (const from of [0, 8, 16]) is("a round", rounds.slice(from, from + 8).sort(), [..."abcdefgh"]);
        is("twice in a row", rounds.filter((id, at) => id === rounds[at + 1]), []);
        is("back over a round", walk(queue, -1, 10), rounds.slice(-11, -1).reverse());
    }
    is("orders", orders.size > 20, true);
    // One that was chosen, one that is added, one that is removed.
    const queue = queueAt(0);
    queue.toggleShuffle();
    const before = ["a", ...walk(queue, 1, 2)];
    const chosen = "bcdefgh".split("").find(id => !before.includes(id));
    queue.jump(queue.items.findIndex(({ id }) => id === chosen));
    queue.add({ ...tracks[0], id: "i" }, true);
    const gone = "bcdefgh".split("").find(id => id !== chosen && !before.includes(id));
    queue.remove(queue.items.findIndex(({ id }) => id === gone));
    const after = walk(queue, 1);
    is("added next", after[0], "i");
    is("the rest", [...before, chosen, ...after].sort(), [..."abcdefghi"].filter(id => id !== gone));
    is("what was heard", walk(queue, -1).slice(-3), [before[2], before[1], before[0]]);
    // The order is remembered with the queue.
    const kept = queueAt(3);
    kept.belongTo("ada");
    kept.replace(tracks, 3);
    kept.toggleShuffle();
    kept.step(1);
    kept.keep(7);
    const again = queueAt(0);
    again.belongTo("ada");
    is("seconds", again.restore(), 7);
    is("the same order", [again.current.id, ...walk(again, 1)], [kept.current.id, ...walk(kept, 1)]);
    // The same track twice: each has its own place.
    const twice = new Queue(() => {});
    twice.replace([tracks[0], tracks[1], tracks[0]], 2);
    twice.move(2, 1);
    is("moved", [twice.index, twice.current === twice.items[1], new Set(twice.items).size], [1, true, 3]);
    twice.remove(0);
    is("removed", [twice.index, twice.items.map(({ id }) => id).join("")], [0, "ab"]);
    is("in order", [twice.step(1), twice.step(1), twice.step(-1), twice.step(-1)], [true, false, true, false]);
    return faults;
"#;

#[tokio::test]
async fn a_shuffled_queue_plays_each_track_once_and_goes_back_along_what_was_heard() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.open_page().await;
    assert_eq!(room.run(RULES).await, json!([]));
    room.browser.close().await;
}

#[tokio::test]
async fn the_same_track_stands_in_the_queue_twice_and_what_plays_is_marked_wherever_it_is_moved() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let script = r#"
        await plays("Night Ferry");
        element("show-queue").click();
        await until("the queue", () => element("queue")?.children.length === 3);
        document.querySelector('[data-id="t1"] .round').click();
        await until("four", () => element("queue").children.length === 4);
        const titles = () => [...element("queue").querySelectorAll(".title")].map(node => node.textContent);
        const marked = () => [...element("queue").children].findIndex(row => row.querySelector("[aria-current]"));
        const tool = (row, n) => element("queue").children[row].querySelectorAll(".row-tools button")[n].click();
        element("queue").children[3].querySelector(".track-play").click();
        await until("the second Low Tide", () => marked() === 3 && element("title").textContent === "Low Tide");
        const seen = [titles().join()];
        tool(3, 0);
        await until("it is moved", () => marked() === 2);
        seen.push(titles().join());
        tool(0, 1);
        await until("the other is moved", () => titles()[1] === "Low Tide");
        seen.push([titles().join(), marked()].join());
        tool(1, 2);
        await until("the other is removed", () => titles().length === 3);
        seen.push([titles().join(), marked(), element("title").textContent].join());
        return seen;
    "#;
    let seen = json!([
        "Low Tide,Night Ferry,Вітер,Low Tide",
        "Low Tide,Night Ferry,Low Tide,Вітер",
        "Night Ferry,Low Tide,Low Tide,Вітер,2",
        "Night Ferry,Low Tide,Вітер,1,Low Tide",
    ]);
    assert_eq!(room.run(script).await, seen);
    room.browser.close().await;
}

#[tokio::test]
async fn shuffle_repeat_and_the_tools_of_the_queue_do_what_they_say() {
    let Some(room) = Room::open(|_| {}).await else { return };
    room.visit("ada").await;
    let script = r#"
        await plays("Low Tide");
        const isTitle = title => until(title, () => element("title").textContent === title && audio.readyState > 0);
        const repeat = () => element("repeat").getAttribute("aria-label");
        // To the end of the last track: it stops, begins anew, or the first one follows.
        const atEnd = async () => { slide("seek", 59.5); await until("the end", () => audio.currentTime < 50 || audio.ended); };
        element("next").click(); await isTitle("Night Ferry");
        element("next").click(); await isTitle("Вітер");
        await atEnd();
        const seen = [repeat(), element("title").textContent, document.body.dataset.state];
        element("repeat").click();
        await until("all", () => repeat() === "Repeat: all");
        element("play").click();
        await until("sound", () => !audio.paused && audio.currentTime > 0.2);
        await atEnd();
        await isTitle("Low Tide");
        element("repeat").click();
        await until("this one", () => repeat() === "Repeat: this track");
        await until("sound", () => !audio.paused && audio.currentTime > 0.2);
        await atEnd();
        await until("sound again", () => !audio.paused && audio.currentTime < 30);
        seen.push(element("title").textContent, audio.paused);
        element("repeat").click();
        element("shuffle").click();
        await until("it is on", () => element("shuffle").getAttribute("aria-pressed") === "true");
        const heard = ["Low Tide"];
        for (let n = 0; n < 2; n++) {
            element("next").click();
            await until("another", () => !heard.includes(element("title").textContent));
            heard.push(element("title").textContent);
        }
        element("next").click();
        await wait(300);
        seen.push(element("title").textContent === heard[2]);
        await until("sound", () => audio.readyState > 0 && audio.currentTime < 3);
        element("previous").click(); await isTitle(heard[1]);
        return seen;
    "#;
    let seen = json!(["Repeat: off", "Вітер", "paused", "Low Tide", false, true]);
    assert_eq!(room.run(script).await, seen);
    let cleared = r#"
        element("show-queue").click();
        await until("the queue", () => element("queue")?.children.length === 3);
        const title = element("title").textContent;
        element("clear").click();
        await until("one", () => element("queue").children.length === 1);
        const kept = element("queue").querySelector(".title").textContent === title && !audio.paused;
        element("queue").querySelector(".row-tools button:last-child").click();
        await until("none", () => document.querySelector(".side .empty h3"));
        return [kept, element("title").textContent, audio.getAttribute("src")];
    "#;
    assert_eq!(room.run(cleared).await, json!([true, "", null]));
    room.browser.close().await;
}
