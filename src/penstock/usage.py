"""The ledger's books for programs: reports, statistics, upkeep, import and export, of a store that may be in use."""

from __future__ import annotations

from penstock.reporting.figures import GROUPS as GROUPS
from penstock.reporting.figures import ErrorPattern as ErrorPattern
from penstock.reporting.figures import Rating as Rating
from penstock.reporting.figures import RecentCall as RecentCall
from penstock.reporting.figures import Trend as Trend
from penstock.reporting.figures import UsageLine as UsageLine
from penstock.reporting.figures import UsageReport as UsageReport
from penstock.reporting.figures import UsageSlot as UsageSlot
from penstock.reporting.formats import FORMATS as FORMATS
from penstock.stores.sql.billing import booked as booked
from penstock.stores.sql.reports import usage_report as usage_report
