"""The style of the page, for light and dark screens and for paper."""

STYLE = """
:root{--ink:#1b2430;--dim:#5d6b7c;--paper:#f5f7fa;--card:#fff;--rule:#dfe5ec;--up:#3b6fb6;--hit:#2f9e78;--bad:#c8453b;
--cost:#8a63c9;--ok:#2f7d4f}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf1;--dim:#94a3b5;--paper:#12161c;--card:#1b212a;--rule:#2d3641;
--up:#6ea3ea;--hit:#4cc79c;--bad:#f0766b;--cost:#b393ea;--ok:#62c48b}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:14px/1.45 system-ui,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 24px}
h1{font-size:26px;margin:0}h2{font-size:16px;margin:0 0 10px}
header p,footer,.note{color:var(--dim)}header{margin-bottom:18px}header p{margin:2px 0 0}
section,figure{margin:0 0 18px}
section:not(.tiles):not(.charts):not(.pair),figure,.tiles div,.pair>div{background:var(--card);
border:1px solid var(--rule);
border-radius:10px;padding:16px 18px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:12px}
.tiles div{padding:12px 14px}.tiles span{display:block;color:var(--dim);font-size:12px}
.tiles b{white-space:nowrap;
font-size:21px;font-weight:600;font-variant-numeric:tabular-nums}.tiles small{display:block;min-height:1.45em}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:14px}
.charts figure{margin:0;min-width:0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:14px}
figcaption{font-weight:600;margin-bottom:8px}
svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:15px;font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule)}.stroke{fill:none!important;stroke-width:2;stroke:var(--up)}
.upstream{fill:var(--up)}.cached{fill:var(--hit)}.failed{fill:var(--bad)}.spent{fill:var(--cost)}
.legend{margin:6px 0 0;color:var(--dim);font-size:12px}.legend span{margin-right:16px}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}
i.upstream{background:var(--up)}i.cached{background:var(--hit)}i.failed{background:var(--bad)}i.spent{background:var(--cost)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;border-bottom:1px solid var(--rule);white-space:nowrap}
th{text-align:left;font-weight:500}td,th.right{text-align:right}thead th{color:var(--dim);font-size:12px}
tbody tr:last-child>*{border-bottom:0}
.bar{width:120px;min-width:80px}.bar i{display:block;height:8px;border-radius:4px;background:var(--up);opacity:.75}
.better{color:var(--ok)}.worse{color:var(--bad)}
mark{background:none;color:var(--dim);font-weight:600}mark.excellent,mark.good{color:var(--ok)}mark.needs{color:var(--bad)}
footer{font-size:12px}
@media print{body{background:#fff}section,figure{break-inside:avoid}}
""".strip()
