"""A vendor's first line is recognised; the loader's own and a stranger's are not."""

from __future__ import annotations

import pytest

from sor_sb3.market.formats import recognise

FIRST_LINES = {
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size": "databento",
    "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount": "tardis",
    "exchange,symbol,timestamp,local_timestamp,id,side,price,amount": "tardis",
    '1723161256771000000 {"stream":"btcusdt@bookTicker","data":{"u":1,"b":"1","B":"2"}}': "binance",
    '{"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1723161256771,"data":{}}': "bybit",
    "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time": "binance",
    "id,price,qty,quote_qty,time,is_buyer_maker": "binance",
    "timestamp,symbol,side,size,price,tickDirection,trdMatchID": "bybit",
    "SYMBOL,DATE,TIME,BID,OFR,BIDSIZ,OFRSIZ,MODE,EX": "taq",
    "DATE,TIME_M,EX,SYM_ROOT,SYM_SUFFIX,BID,BIDSIZ,ASK,ASKSIZ,QU_COND": "taq",
    "Time|Exchange|Symbol|Bid_Price|Bid_Size|Offer_Price|Offer_Size|Quote_Condition": "taq",
    "SYMBOL,DATE,TIME,PRICE,SIZE,G127,CORR,COND,EX": "taq",
    "date,sym,time,bid,ask,bsize,asize,ex": "kdb",
    "time,sym,exchangeTime,exchange,bid,ask,bidSize,askSize": "kdb",
    "timestamp,bid,ask": "truefx",
    "EUR/USD,20140501 00:00:00.123,1.38678,1.38682": "truefx",
    "34200.004241176,1,16113575,18,5853300,1": "lobster",
    "5859400,200,5853300,18": "lobster",
    "ts,venue,bid_px,bid_sz,ask_px,ask_sz": None,
    "when,where,bid,offer": None,
    "1,2,3": None,
    "": None,
}


@pytest.mark.parametrize("line", FIRST_LINES)
def test_a_first_line_is_known_by_its_vendor(line):
    assert recognise(line.split(",")) == FIRST_LINES[line]


def test_no_cells_are_nobodys():
    assert recognise([]) is None
