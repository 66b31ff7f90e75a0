// From points and rows to the dynamics of trials, and epoch axes that move together. No function is made of text.
(function () {
    "use strict";

    const NONE = () => window.dash_clientside.no_update;
    const MAX_TRIALS = 8;

    function address(keys) {
        const query = new URLSearchParams();
        const space = new URLSearchParams(location.search).get("space");
        if (space) query.append("space", space);
        keys.slice(0, MAX_TRIALS).forEach((key) => query.append("trial", key));
        return window.lawn.looks.base + "/dynamics?" + query.toString();
    }

    // The shell follows links with data-nav without a reload, so a click on one is the way to go.
    function follow(href) {
        const link = document.createElement("a");
        link.href = href;
        link.dataset.nav = href;
        document.body.append(link);
        link.click();
        link.remove();
    }

    function open(click) {
        const point = click && click.points && click.points[0];
        const keys = point && typeof point.customdata === "string" ? point.customdata.split(" ").filter(Boolean) : [];
        if (keys.length) follow(address(keys));
        return NONE();
    }

    function ticked(rows) {
        const keys = (rows || []).map((row) => row.key);
        if (!keys.length) return ["Tick trials to compare them", "", "quiet faint"];
        const shown = Math.min(keys.length, MAX_TRIALS);
        const text = keys.length > MAX_TRIALS ? `Compare the first ${shown} of ${keys.length}` : `Compare ${shown}`;
        return [text, address(keys), "quiet"];
    }

    // Every word of a search has to be somewhere in a trial's name; the server has chosen among all trials already.
    const functions = (window.dashMantineFunctions = window.dashMantineFunctions || {});
    functions.lawnAny = ({ options, search }) => {
        const words = search.toLowerCase().split(/\s+/).filter(Boolean);
        return options.filter((option) => {
            return words.every((word) => window.lawn.spelled(word, option.label + " " + option.value));
        });
    };

    // --- epoch axes --------------------------------------------------------------------------------------------------

    const PLOTS = "section[id^='dynamics-']:not(#dynamics-reliability) .js-plotly-plot";

    function asked(moved) {
        if (!moved) return null;
        if (moved["xaxis.range"]) return [...moved["xaxis.range"]];
        if ("xaxis.range[0]" in moved) return [moved["xaxis.range[0]"], moved["xaxis.range[1]"]];
        return null;
    }

    // A zoom of the epochs in one figure moves all of them; the next drawings keep it, as they keep every zoom.
    function epochs() {
        const touched = window.dash_clientside.callback_context.triggered[0];
        const range = touched && asked(touched.value);
        if (!range || !window.Plotly) return NONE();
        for (const plot of document.querySelectorAll(PLOTS)) {
            const now = plot._fullLayout && plot._fullLayout.xaxis && plot._fullLayout.xaxis.range;
            if (!now || range.every((end, i) => Math.abs(now[i] - end) < 1e-6)) continue;
            window.Plotly.relayout(plot, { "xaxis.range[0]": range[0], "xaxis.range[1]": range[1] });
        }
        return NONE();
    }

    // --- brushing ----------------------------------------------------------------------------------------------------

    // A box over axes of the parallel coordinates draws the lines through it once more, in front. Further boxes narrow
    // them down; a double click ends it. The lines of a group are one trace, parted by gaps.
    const BRUSHED = "brushed";
    const boxes = {}; // graph → axis → [low, high]

    function brush() {
        const [touched] = window.dash_clientside.callback_context.triggered;
        const id = touched && touched.prop_id.replace(/\.selectedData$/, "");
        const graph = id && document.querySelector(`[id='${CSS.escape(id)}'] .js-plotly-plot`);
        if (!graph || !graph.data || !window.Plotly) return NONE();
        const box = touched.value && touched.value.range;
        boxes[id] = box ? Object.assign({}, boxes[id], crossed(box)) : {};
        const lines = graph.data.filter((trace) => !String(trace.name).startsWith(BRUSHED)).flatMap(parted);
        const wanted = Object.entries(boxes[id]);
        const inside = lines.filter((line) => wanted.every(([axis, [low, high]]) => line[axis] >= low && line[axis] <= high));
        const old = graph.data.findIndex((trace) => String(trace.name).startsWith(BRUSHED));
        if (old >= 0) window.Plotly.deleteTraces(graph, [old]);
        if (wanted.length) window.Plotly.addTraces(graph, overlay(inside, graph.layout.template.layout.font.color));
        return NONE();
    }

    function crossed(box) {
        const [left, right] = [...box.x].sort((a, b) => a - b);
        const ends = [...box.y].sort((a, b) => a - b);
        const axes = [];
        for (let axis = Math.ceil(left); axis <= right; axis += 1) axes.push(axis);
        if (!axes.length) axes.push(Math.round((left + right) / 2));
        return Object.fromEntries(axes.map((axis) => [axis, ends]));
    }

    function parted(trace) {
        const lines = [[]];
        [...trace.y].forEach((height, i) => {
            if (trace.x[i] === null || height === null) lines.push([]);
            else lines[lines.length - 1][trace.x[i]] = height;
        });
        return lines.filter((line) => line.length);
    }

    function overlay(lines, color) {
        const x = lines.flatMap((line) => [...line.keys(), null]);
        const y = lines.flatMap((line) => [...line, null]);
        const name = `${BRUSHED} (${lines.length})`;
        return { name, x, y, mode: "lines", line: { color, width: 2.4 }, hoverinfo: "skip" };
    }

    Object.assign(window.dash_clientside.lawn, { open, ticked, epochs, brush }); // lawn.js comes first
})();
