// How large tables look; AG Grid finds these by name.
(function () {
    "use strict";

    const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
    const parts = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
    const make = (...args) => window.React.createElement(...args);
    const method = (name) => {
        const known = window.lawn.looks.methods;
        return Object.hasOwn(known, name) ? known[name] : { name: name, color: "#a067b1", line: "dashed" };
    };

    functions.lawnNumber = (value, digits) => {
        if (value === null || value === undefined || Number.isNaN(Number(value))) return "–";
        const text = digits === null ? String(Number(Number(value).toPrecision(6))) : Number(value).toFixed(digits);
        return text.replace("-", "\u2212");
    };

    functions.lawnMethodName = (value) => (value ? method(value).name : "");

    parts.lawnLink = (cell) => {
        const to = cell.data && cell.data[cell.to];
        return to && to.startsWith("/") ? make("a", { href: to, "data-nav": to }, cell.value) : cell.value;
    };

    parts.lawnOutcome = (cell) =>
        cell.value ? make("span", { className: "outcome " + String(cell.value).replace(/\W/g, "") }, cell.value) : "";

    parts.lawnMethod = (cell) => {
        if (!cell.value) return "";
        const look = method(cell.value);
        const line = make("span", { className: "line", style: { borderTop: "2px " + look.line + " " + look.color } });
        return make("span", { className: "method" }, line, look.name);
    };
})();
