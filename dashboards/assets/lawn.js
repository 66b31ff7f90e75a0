// What runs in the browser: address and controls, live refresh, theme, drawing, export. No function is made of text.
(function () {
    "use strict";

    const NONE = () => window.dash_clientside.no_update;
    const looks = JSON.parse(document.getElementById("lawn-looks").textContent);
    const base = looks.base;
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

    // --- address and controls ------------------------------------------------------------------------------------

    const inner = (path) => (path === base ? "/" : path.startsWith(base + "/") ? path.slice(base.length) : path);

    // No filter has the name of what every object has, such as "constructor".
    function read(search) {
        const filters = {};
        let space = "";
        for (const [name, value] of new URLSearchParams(search || "")) {
            if (name === "space") space = value;
            else if (!(name in {})) (filters[name] = filters[name] || []).push(value);
        }
        return { space, filters };
    }

    function write(space, filters) {
        const query = new URLSearchParams();
        if (space) query.append("space", space);
        for (const name of Object.keys(filters).sort()) filters[name].forEach((v) => query.append(name, v));
        const text = query.toString();
        return text ? "?" + text : "";
    }

    function asked(values, ids) {
        const filters = {};
        ids.forEach((id, i) => {
            const value = values[i];
            const chosen = Array.isArray(value) ? value : [value];
            filters[id.name] = chosen.filter((v) => v && v !== id.default);
        });
        return filters;
    }

    // One function, so that address, controls and place never disagree; what was touched last decides.
    function sync(pathname, search, space, values, known, before, ids) {
        const touched = window.dash_clientside.callback_context.triggered.map((t) => t.prop_id);
        const path = inner(pathname);
        const moved = touched.some((id) => id.startsWith("url."));
        const byControl = !moved && touched.some((id) => id === "space.value" || id.startsWith("{"));
        const here = read(byControl ? location.search : search); // which `remember` writes behind Dash's back
        if (byControl && touched.includes("space.value") && space && before && space !== before.space) {
            return [write(space, {}), { path, space, filters: {} }, NONE(), values.map(NONE)];
        }
        if (byControl && before && ids.length) {
            const merged = Object.assign({}, here.filters, asked(values, ids));
            for (const name of Object.keys(merged)) if (!merged[name].length) delete merged[name];
            const place = { path, space: before.space, filters: merged };
            const next = same(place, before) ? NONE() : place;
            return [next === place ? write(before.space, merged) : NONE(), next, NONE(), values.map(NONE)];
        }
        const spaces = known.spaces || [];
        const place = { path, space: here.space || known.first || spaces[0] || "", filters: here.filters };
        const shown = ids.map((id, i) => {
            const chosen = here.filters[id.name] || [];
            const wanted = Array.isArray(values[i]) || id.default === "" ? chosen : chosen[0] || id.default;
            return same(wanted, values[i]) ? NONE() : wanted;
        });
        const chosen = spaces.includes(place.space) ? place.space : null;
        return [NONE(), same(place, before) ? NONE() : place, chosen === space ? NONE() : chosen, shown];
    }

    // What a viewer does to a figure or a table stays in the address, one text per card and name, and asks the server
    // for nothing: a copied link shows the same zoom, order and filters.
    const LONGEST = 200;
    function remember(name, card, value) {
        const { space, filters } = read(location.search);
        const others = (filters[name] || []).filter((text) => !text.startsWith(card + " "));
        const text = `${card} ${value}`;
        filters[name] = value && text.length <= LONGEST ? [...others, text] : others;
        const query = write(space, filters);
        if (query !== location.search) history.replaceState(history.state, "", location.pathname + query);
    }

    function remembered(name, card) {
        const found = (read(location.search).filters[name] || []).find((text) => text.startsWith(card + " "));
        return found ? found.slice(card.length + 1) : "";
    }

    const alike = (a, b) => Boolean(a && b) && a.path === b.path && a.space === b.space;

    // A page is laid out again for another path or space, for the first space, and when a failure may be fixed.
    function route(place, known, version, wanted, laid) {
        if (!place) return NONE();
        const asked = wanted && alike(wanted.place, place);
        const stale = laid && (laid.filled !== known.spaces.length > 0 || (laid.failed && laid.version !== version));
        return asked && !(stale && alike(laid.place, place)) ? NONE() : { place, version };
    }

    // The cards of the current page follow the address; those of a page that is being left do not.
    function stay(place, laid, here) {
        return laid && alike(laid.place, place) && !same(place, here) ? place : NONE();
    }

    function go(href) {
        history.pushState({}, "", href);
        window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
        window.scrollTo(0, 0);
    }

    document.addEventListener("click", (event) => {
        const link = event.target.closest("a[data-nav]");
        const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
        if (!link || !plain || event.defaultPrevented) return;
        event.preventDefault();
        go(link.getAttribute("href"));
    });

    // A new page begins at its heading, for eyes and for screen readers alike.
    let arrived = null;
    function arrive(_, place) {
        const heading = document.getElementById("title");
        const page = place && place.path;
        document.title = (heading.textContent ? heading.textContent + " · " : "") + (place.space || "lawn_tune");
        if (arrived !== null && arrived !== page) heading.focus({ preventScroll: true });
        const tab = document.querySelector(".top nav [aria-current='page']"); // a phone may not show all of them
        if (tab) tab.parentElement.scrollLeft += tab.getBoundingClientRect().left - tab.parentElement.offsetLeft - 40;
        arrived = page;
        return NONE();
    }

    // --- live refresh --------------------------------------------------------------------------------------------

    const still = () => [NONE(), NONE(), NONE(), NONE(), NONE()];
    const PATIENCE = 1000;
    let latest = null; // {space, pending, answer}
    let gone = false;
    let returns = 0;
    async function poll(_, place, version, known) {
        if (!place) return still();
        const ticked = window.dash_clientside.callback_context.triggered.some((t) => t.prop_id.startsWith("clock."));
        const here = latest && latest.space === place.space;
        if (here && latest.pending) return latest.answer;
        if (document.hidden || (here && !ticked)) return still(); // every card waits for the answer
        const mine = (latest = { space: place.space, pending: true });
        const pause = setTimeout(rest, PATIENCE, true);
        mine.answer = ask(mine, version, known).finally(() => {
            mine.pending = false;
            clearTimeout(pause);
            if (mine === latest) rest(false);
        });
        return mine.answer;
    }

    // Dash forgets an answer once the next question is there, so the clock waits for one that takes long.
    let resting = false;
    function rest(wanted) {
        if (resting !== wanted) window.dash_clientside.set_props("clock", { disabled: (resting = wanted) });
    }

    async function ask(mine, version, known) {
        try {
            const answer = await fetch(base + "/_version?space=" + encodeURIComponent(mine.space), { cache: "no-store" });
            if (answer.status === 401) {
                location.reload(); // the server asks for the token and leads back here
                return still();
            }
            const found = await answer.json();
            if (mine !== latest) return still(); // another space is shown by now
            if (refusal) return off(refusal);
            if (!answer.ok) return lost(found.error || "the ledger cannot be read");
            if (gone) found.version += " " + ++returns; // what failed meanwhile is asked for again
            else if (returns) found.version += " " + returns;
            gone = false;
            const spaces = same(found.spaces, known.spaces) ? NONE() : found.spaces;
            return [
                found.version === version ? NONE() : found.version,
                "Live",
                "live on",
                spaces,
                spaces === found.spaces ? Object.assign({}, known, { spaces }) : NONE(),
            ];
        } catch {
            return mine === latest ? lost("no connection to the server") : still();
        }
    }

    function lost(reason) {
        gone = true;
        return off(reason + "; trying again");
    }

    const off = (reason) => [NONE(), "Not live: " + reason, "live off", NONE(), NONE()];

    // Cards whose requests the server refuses stay empty, so the reason is shown where the page is live otherwise.
    let refusal = "";
    const plain = window.fetch;
    window.fetch = async (...request) => {
        const answer = await plain(...request);
        if (String(request[0]).includes("/_dash-update-component") && [403, 413, 421].includes(answer.status)) {
            refusal = (await answer.clone().text()).trim();
            const [, children, className] = off(refusal);
            window.dash_clientside.set_props("live", { children, className });
        }
        return answer;
    };

    // --- markup --------------------------------------------------------------------------------------------------

    function element(node, key) {
        if (typeof node === "string") return node;
        if (Array.isArray(node)) return node.map(element);
        const children = Array.isArray(node.children) ? node.children.map(element) : element(node.children);
        return window.React.createElement(node.tag, { ...node.attributes, key }, children || undefined);
    }

    window.lawn_markup = { Markup: ({ tree }) => window.React.createElement(window.React.Fragment, {}, element(tree)) };

    // --- the page as the server's first answer --------------------------------------------------------------------

    // It is read until the page itself says as much, or does not come to it.
    const PATIENT = 5000;
    const early = document.getElementById("early");
    if (early) {
        const said = [...early.querySelectorAll(".body:not(.waiting)")].map((body) => body.id.replace("early-", ""));
        const waits = (id) => document.getElementById(id)?.matches(".waiting");
        const arrived = new MutationObserver(
            () => document.getElementById("title")?.textContent && !said.some(waits) && leave(),
        );
        function leave() {
            arrived.disconnect();
            early.remove();
        }
        const any = { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["class"] };
        arrived.observe(document.getElementById("react-entry-point"), any);
        setTimeout(leave, PATIENT);
    }

    // --- theme ---------------------------------------------------------------------------------------------------

    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");

    function saved(value) {
        try {
            if (value) localStorage.setItem("lawn-theme", value);
            return localStorage.getItem("lawn-theme");
        } catch {
            return null;
        }
    }

    function put(theme) {
        root.dataset.theme = root.dataset.mantineColorScheme = root.dataset.agThemeMode = theme;
        const label = theme === "dark" ? "Switch to light colors" : "Switch to dark colors";
        return [theme, theme, label, label];
    }

    function theme(clicks) {
        if (!clicks) return put(root.dataset.theme);
        return put(saved(root.dataset.theme === "dark" ? "light" : "dark") || root.dataset.theme);
    }

    system.addEventListener("change", () => {
        if (saved()) return;
        const [now, , label] = put(system.matches ? "dark" : "light");
        window.dash_clientside.set_props("theme", { data: now });
        window.dash_clientside.set_props("provider", { forceColorScheme: now });
        window.dash_clientside.set_props("toggle", { "aria-label": label, title: label });
    });

    // --- figures -------------------------------------------------------------------------------------------------

    // Dash writes a viewer's zoom into its own copy of the figure, where Plotly's `uirevision` no longer sees it. So what
    // the viewer changed is found here, by comparing the graph with what was drawn, and carried over to the next drawing.
    const drawn = {};

    // The place is as high as the figure: Plotly drops the figure's own height when it fits the width, and takes this one.
    function draw(drawing, theme) {
        if (!drawing || !theme) return [NONE(), NONE()];
        const id = window.dash_clientside.callback_context.outputs_list[0].id;
        const style = { height: drawing.layout.height + "px" };
        const graph = document.querySelector(`[id='${CSS.escape(id)}'] .js-plotly-plot`);
        const before = drawn[id];
        drawn[id] = drawing;
        const layout = Object.assign({}, drawing.layout, { template: looks.templates[theme] });
        const full = Boolean(graph && graph.layout && graph.layout.uirevision); // a place is empty before its first drawing
        const kept = full && before && before.layout.uirevision === drawing.layout.uirevision;
        if (!kept) zoom(id, layout, full);
        const data = drawing.data.map((trace) => Object.assign({}, trace)); // Plotly writes into what it is given
        if (!kept) return [{ data, layout }, style];
        Object.assign(layout, changes(graph.layout, before.layout, drawing.layout));
        return [{ data: data.map((trace) => hidden(trace, graph.data, before.data)), layout }, style];
    }

    // A figure that is new on its page takes its zoom from the address; one that now shows something else loses it.
    function zoom(id, layout, other) {
        const card = id.replace(/-graph$/, "");
        if (other) return remember("zoom", card, "");
        for (const part of remembered("zoom", card).split(";")) {
            const [axis, low, high] = part.split(/[=~]/);
            if (!/^[xy]axis\d*$/.test(axis) || !layout[axis] || !high) continue;
            const range = [low, high].map((end) => (Number.isNaN(Number(end)) ? end : Number(end)));
            layout[axis] = Object.assign({}, layout[axis], { range, autorange: false });
        }
    }

    function zoomed() {
        const [touched] = window.dash_clientside.callback_context.triggered;
        const id = touched && touched.prop_id.replace(/\.relayoutData$/, "");
        const graph = id && document.querySelector(`[id='${CSS.escape(id)}'] .js-plotly-plot`);
        if (!graph || !graph.layout || !drawn[id] || !touched.value) return NONE();
        const short = (end) => (typeof end === "number" ? Number(end.toPrecision(6)) : end);
        const found = Object.entries(changes(graph.layout, drawn[id].layout, {})).filter(([, axis]) => axis.range);
        const texts = found.map(([name, axis]) => `${name}=${axis.range.map(short).join("~")}`);
        remember("zoom", id.replace(/-graph$/, ""), texts.join(";"));
        return NONE();
    }

    function changes(seen, before, next) {
        const found = {};
        if (seen.dragmode && seen.dragmode !== (before.dragmode || "zoom")) found.dragmode = seen.dragmode;
        for (const axis of Object.keys(seen).filter((key) => /^[xy]axis\d*$/.test(key))) {
            const { range, autorange } = seen[axis] || {};
            if (!range || autorange === true || same(range, (before[axis] || {}).range)) continue;
            found[axis] = Object.assign({}, next[axis], { range, autorange: false });
        }
        return found;
    }

    function hidden(trace, seen, before) {
        const here = (other) => other.name === trace.name && other.legendgroup === trace.legendgroup;
        const [now, was] = [seen.find(here), before.find(here)];
        if (!trace.name || !now || !was || now.visible === was.visible) return trace;
        return Object.assign({}, trace, { visible: now.visible === undefined ? true : now.visible });
    }

    // A finger scrolls the page; Plotly would take the swipe for a zoom. A tap still arrives as a click.
    document.addEventListener(
        "touchstart",
        (event) => event.target.closest && event.target.closest(".js-plotly-plot") && event.stopPropagation(),
        { capture: true, passive: true },
    );

    // What a list shows is selected when it is entered or clicked, so that typing begins a new search.
    for (const entered of ["focusin", "click"]) {
        document.addEventListener(entered, (event) => {
            if (event.target.matches && event.target.matches(".mantine-Select-input")) event.target.select();
        });
    }

    function file(name, subject, kind) {
        const space = new URLSearchParams(location.search).get("space") || "";
        return [space, subject, name].filter(Boolean).join("-").replace(/[^\w.-]+/g, "-") + (kind ? "." + kind : "");
    }

    // Saved on white in the light theme, whatever is on screen: it goes into a paper.
    function save(card, kind) {
        const graph = document.querySelector(`[id='${CSS.escape(card)}'] .js-plotly-plot`);
        if (!graph || !window.Plotly) return;
        const look = { template: looks.templates.light, paper_bgcolor: "#ffffff", autosize: false };
        const layout = Object.assign({}, graph.layout, look);
        const size = { width: graph.clientWidth, height: graph.layout.height || graph.clientHeight };
        window.Plotly.downloadImage(
            { data: graph.data, layout, config: { showSendToCloud: false } },
            Object.assign({ format: kind, filename: file(card, graph.layout.meta), scale: kind === "png" ? 2 : 1 }, size),
        );
    }

    // --- tables --------------------------------------------------------------------------------------------------

    // As lawn_tune/comparison/renderers/csv_field.py, whose pattern it takes: a text is never a formula.
    const formula = new RegExp("^" + looks.formula);
    function csvField(value) {
        if (value === null || value === undefined) return "";
        if (typeof value === "number") return String(Number(value.toPrecision(12))); // not 91.21000000000001
        const text = String(value).replace(/\r\n?/g, "\n");
        return formula.test(text) ? "'" + text : text;
    }

    // True where a text holds a word, or the number that a word spells: 1e-3, .001 and 0.001 are one.
    function spelled(word, text) {
        if (text.toLowerCase().includes(word.toLowerCase())) return true;
        const number = Number(word.replace(/,/g, "") || NaN);
        const parts = text.replace(/(?<=\d),(?=\d{3})/g, "").split(/[^\w.+-]+/);
        return !Number.isNaN(number) && parts.some((part) => part && Number(part) === number);
    }

    async function csv(grid) {
        const api = await window.dash_ag_grid.getApiAsync(grid);
        const first = api.getDisplayedRowAtIndex(0);
        api.exportDataAsCsv({
            fileName: file(grid.replace(/-grid$/, ""), first && first.data.subject, "csv"),
            processCellCallback: (cell) => csvField(cell.value),
            processHeaderCallback: (cell) => csvField(cell.column.getColDef().field),
        });
    }

    // Order, filters and search of a table are taken from the address when it is filled first, and kept there.
    const watched = new WeakSet();
    async function restore(rows, id) {
        const api = rows && rows.length && (await window.dash_ag_grid.getApiAsync(id));
        if (!api || watched.has(api)) return NONE();
        watched.add(api);
        const card = id.replace(/-grid$/, "");
        const state = remembered("sort", card).split(",").filter(Boolean).map((part, sortIndex) => {
            const [colId, sort] = part.split(":");
            return { colId, sort: sort === "desc" ? "desc" : "asc", sortIndex };
        });
        if (state.length) api.applyColumnState({ state, defaultState: { sort: null } });
        try {
            api.setFilterModel(JSON.parse(remembered("rows", card) || "null"));
        } catch { /* not ours: nothing is filtered */ }
        const words = remembered("search", card);
        if (words) window.dash_clientside.set_props(`${card}-search`, { value: words });
        api.addEventListener("sortChanged", () => {
            const by = api.getColumnState().filter((column) => column.sort);
            by.sort((a, b) => a.sortIndex - b.sortIndex);
            remember("sort", card, by.map((column) => `${column.colId}:${column.sort}`).join(","));
        });
        api.addEventListener("filterChanged", () => {
            const model = api.getFilterModel();
            remember("rows", card, Object.keys(model).length ? JSON.stringify(model) : "");
        });
        return NONE();
    }

    async function search(value, id) {
        remember("search", id.replace(/-search$/, ""), value || "");
        const api = await window.dash_ag_grid.getApiAsync(id.replace(/-search$/, "-grid"));
        api.setGridOption("quickFilterMatcher", (parts, text) => parts.every((part) => spelled(part, text)));
        api.setGridOption("quickFilterText", value || "");
        return NONE();
    }

    document.addEventListener("click", async (event) => {
        const button = event.target.closest("button[data-copy], button[data-export], button[data-csv]");
        if (!button) return;
        const { copy, export: kind, card, csv: grid } = button.dataset;
        if (kind) save(card, kind);
        if (grid) csv(grid);
        if (copy) {
            await navigator.clipboard.writeText(copy);
            button.textContent = "Copied";
            setTimeout(() => (button.textContent = "Copy"), 1500);
        }
    });

    window.dash_clientside = Object.assign({}, window.dash_clientside, {
        lawn: { sync, route, stay, poll, theme, arrive, draw, zoomed, restore, search },
    });
    window.lawn = { looks, csvField, spelled };
})();
