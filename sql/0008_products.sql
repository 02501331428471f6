-- What sold of each product and variant in the look-back, as of the last analysts' file: each one replaces it as a whole.
CREATE TABLE product_rfm (
    shop          text NOT NULL,
    item          text NOT NULL,             -- the product's id, without one sku:...
    variant       text NOT NULL,             -- the variant's id, without one sku:...; '': all of the product
    product_id    text,
    sku           text,
    as_of         timestamptz NOT NULL,
    currency      text NOT NULL,
    recency_days  integer NOT NULL,
    last_order_at timestamptz NOT NULL,
    frequency     bigint NOT NULL,
    pieces        bigint NOT NULL,
    monetary      bigint NOT NULL,
    buyers        bigint NOT NULL,
    repeat_buyers bigint NOT NULL,
    first_orders  bigint NOT NULL,
    came_back     bigint NOT NULL,
    segments      jsonb NOT NULL,            -- buyers by the segment they are in; of a variant {}
    PRIMARY KEY (shop, item, variant)
);
