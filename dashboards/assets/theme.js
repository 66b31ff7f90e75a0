// Before anything is drawn: the theme that was chosen here, else the system's.
(function () {
    "use strict";
    let saved = null;
    try {
        saved = localStorage.getItem("lawn-theme");
    } catch { /* storage is switched off: the system's theme it is */ }
    const dark = saved ? saved === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    const root = document.documentElement;
    root.dataset.theme = dark ? "dark" : "light";
    root.dataset.mantineColorScheme = root.dataset.theme;
    root.dataset.agThemeMode = root.dataset.theme;
})();
