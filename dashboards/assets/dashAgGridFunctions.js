// How large tables look; AG Grid finds these by name.
(function () {
    "use strict";

    const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
    const parts = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
    const make = (...args) => window.React.createElement(...args);

    functions.lawnNumber = (value, digits) => {
        if (value === null || value === undefined || Number.isNaN(Number(value))) return "–";
        const text = digits === null ? String(Number(Number(value).toPrecision(6))) : Number(value).toFixed(digits);
        return text.replace("-", "\u2212");
    };

    parts.lawnLink = (cell) => {
        const to = cell.data && cell.data[cell.to];
        return to && to.startsWith("/") ? make("a", { href: to, "data-nav": to }, cell.value) : cell.value;
    };

    parts.lawnOutcome = (cell) =>
        cell.value ? make("span", { className: "outcome " + String(cell.value).replace(/\W/g, "") }, cell.value) : "";
})();
