# SPDX-License-Identifier: Apache-2.0
"""How the comparison page looks: light or dark as the reader's system, in colours that stay apart for everyone."""

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c1d20;--faint:#6b6e76;--rule:#e2e3e7;--band:#f5f6f8;--best:#e3f2e6;
--a:#0b6bcb;--b:#c2570c;--warn:#fff3d6}
@media(prefers-color-scheme:dark){:root{--paper:#16171a;--ink:#e6e7ea;--faint:#9a9da6;--rule:#2e3036;--band:#1e2024;
--best:#1c3a26;--a:#6cb2ff;--b:#ff9d57;--warn:#4a3a10}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:28px 24px 60px;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:24px;font-weight:600;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:17px;font-weight:600;margin:38px 0 10px;padding-bottom:5px;border-bottom:1px solid var(--rule)}
.a{color:var(--a)}.b{color:var(--b)}
p{color:var(--faint);margin:0 0 10px}
.warning{background:var(--warn);color:var(--ink);padding:8px 12px;border-radius:5px}
.wide{overflow-x:auto}.wide>table{min-width:760px}
table{border-collapse:collapse;width:100%}
th{font-weight:500;text-align:left;vertical-align:top}
small{display:block;color:var(--faint);font-size:12px;font-weight:400;overflow-wrap:anywhere}
.figures td,.figures th{padding:5px 12px 5px 0;border-bottom:1px solid var(--rule)}
.figures td,.figures tr:first-child th:not(:first-child){text-align:right;
font-variant-numeric:tabular-nums;padding-right:10px}
.figures td{white-space:nowrap}
.figures tr:first-child th{vertical-align:bottom;overflow-wrap:anywhere}
.figures .group th{padding-top:18px;font-size:13px;color:var(--faint);text-transform:uppercase;letter-spacing:.05em}
.best{background:var(--best);font-weight:600}.faint{color:var(--faint)}
.sheet{table-layout:fixed}.sheet td,.sheet th{padding:2px}.sheet th:first-child{width:104px;padding-right:8px}
.sheet th{vertical-align:middle;font-size:13px}.sheet tr:first-child th{color:var(--faint);font-weight:400}
.sheet img{display:block;width:100%;height:auto;border-radius:3px}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(380px,100%),1fr));gap:18px 22px}
figure{margin:0;background:var(--band);border-radius:6px;padding:10px 12px 6px}
figcaption{font-size:13px;font-weight:500;margin-bottom:4px}
.plot{display:block;width:100%;height:auto}.grid{stroke:var(--rule);stroke-width:1}
.tick{fill:var(--faint);font-size:12px}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.line.a{stroke:var(--a)}
.line.b{stroke:var(--b);stroke-dasharray:6 3}
.dot.a{fill:var(--a)}.dot.b{fill:var(--b)}
.legend span{margin-right:18px}.legend span::before{content:"";display:inline-block;width:22px;margin-right:7px;
vertical-align:middle;border-top:2px solid currentColor}.legend .b::before{border-top-style:dashed}
.about td,.about th{padding:4px 14px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top;
overflow-wrap:anywhere}
.about .differs{background:var(--band)}
.same{margin-top:12px}
ul{margin:0;padding-left:20px}footer{margin-top:40px;color:var(--faint);font-size:13px}
"""
