-- lease_age(): HumanDuration of k8s.io/apimachinery, with its own test vectors.
BEGIN;
SELECT plan(52);

SELECT is(lease_age('2026-01-01 00:00+00', timestamptz '2026-01-01 00:00+00' + make_interval(secs => seconds)), words, seconds || ' s')
FROM (VALUES
	(-3600, '<invalid>'), (-2, '<invalid>'), (-1.999999, '0s'), (-1.999, '0s'), (-1.5, '0s'), (-1, '0s'), (0, '0s'), (0.999, '0s'), (1, '1s'), (70, '70s'),
	(119.999, '119s'), (120, '2m'), (121, '2m1s'), (190, '3m10s'), (599.999, '9m59s'), (600, '10m'), (601, '10m'),
	(4200, '70m'), (10799.999, '179m'), (10800, '3h'), (10860, '3h1m'), (10859.999, '3h'), (28799.999, '7h59m'), (28800, '8h'),
	(32340, '8h'), (169200, '47h'), (172799.999, '47h'), (172800, '2d'), (176400, '2d1h'), (691199.999, '7d23h'),
	(691200, '8d'), (698400, '8d'), (774000, '8d'), (31708800, '367d'), (63071999.999, '729d'), (63072000, '2y'),
	(63154800, '2y'), (63158400, '2y1d'), (63158399.999, '2y'), (94608000, '3y'), (252287999.999, '7y364d'), (252288000, '8y'),
	(283737600, '8y'), (283824000, '9y'), (3153600000, '100y')) v (seconds, words);

SELECT is(lease_age(NULL), '<unknown>', 'the age of what was never created is not known');
SELECT is(lease_age('-infinity'), '<unknown>', 'minus infinity is not known either');
SELECT is(lease_age(clock_timestamp(), NULL), NULL, 'the age at a time that is NULL is NULL');
SELECT is(lease_age(clock_timestamp()), '0s', 'now, without a second argument');
SELECT is(lease_age('2024-02-28 00:00+00', '2024-03-01 00:00+00'), '2d', 'days, whatever the month');
SELECT is(lease_age('2026-10-25 00:00+02', '2026-10-26 01:00+01'), '26h', 'hours, whatever the time zone');
SELECT matches(lease_age('1970-01-01 00:00+00', 'infinity'), '^[0-9]+y$', 'at the end of all times, years');

SELECT * FROM finish();
ROLLBACK;
