BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE tasks (
	id TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	status TEXT DEFAULT 'pending' NOT NULL, 
	result TEXT, 
	created_at INTEGER NOT NULL, 
	processed_at INTEGER, 
	accepted_at BIGINT NOT NULL, 
	due_at BIGINT, 
	queued_at BIGINT, 
	started_at BIGINT, 
	attempt INTEGER DEFAULT '0' NOT NULL, 
	handed_back INTEGER DEFAULT '0' NOT NULL, 
	worker TEXT, 
	error TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "tasks" VALUES('b97a8118-4768-40cd-acfb-e51c15775435','{"id":"b97a8118-4768-40cd-acfb-e51c15775435","action":"uppercase","data":{"text":"grüße ✓ 你好"},"created_at":1700000973}','completed','{"output":"GRÜSSE ✓ 你好"}',1700000973,1700000982,1700000973822000,NULL,NULL,1700000982498,1,0,'taskqueue-worker vm 9508',NULL);
INSERT INTO "tasks" VALUES('1d43f6ea-cf82-4fbe-ba70-6280274122f0','{"id":"1d43f6ea-cf82-4fbe-ba70-6280274122f0","action":"sum","data":{"numbers":[1,2.5,100000000000000000000]},"created_at":1700000973}','completed','{"output":1e+20}',1700000973,1700000977,1700000973948000,NULL,NULL,1700000977541,1,0,'taskqueue-worker vm 9508',NULL);
INSERT INTO "tasks" VALUES('d2becca7-42d3-4b83-8551-bb99ef10caa6','{"id":"d2becca7-42d3-4b83-8551-bb99ef10caa6","action":"anything","data":{"nested":[{"a":null,"b":[true,"\u0000"]}]},"created_at":1700000974}','completed','{"output":"processed"}',1700000974,1700000977,1700000974006000,NULL,NULL,1700000977542,1,0,'taskqueue-worker vm 9508',NULL);
INSERT INTO "tasks" VALUES('5fe23b32-ec05-45f4-9cf3-5efd84aedc48','{"id":"5fe23b32-ec05-45f4-9cf3-5efd84aedc48","action":"sum","data":{"numbers":["one"]},"created_at":1700000974}','failed',NULL,1700000974,1700000977,1700000974026000,NULL,NULL,1700000977542,1,0,'taskqueue-worker vm 9508','data.numbers.0.int: Input should be a valid integer, unable to parse string as an integer; data.numbers.0.float: Input should be a valid number, unable to parse string as a number');
INSERT INTO "tasks" VALUES('495fdbcb-1e16-43fe-b70a-87b0608b2f9a','{"id":"495fdbcb-1e16-43fe-b70a-87b0608b2f9a","action":"uppercase","data":{"text":"cut short"},"created_at":1700000984}','running',NULL,1700000984,NULL,1700000984052000,1700001017370,NULL,1700000987370,1,0,'taskqueue-worker vm 10346',NULL);
INSERT INTO "tasks" VALUES('ea3b4145-77ec-4211-ba1b-a496e7090c89','{"id":"ea3b4145-77ec-4211-ba1b-a496e7090c89","action":"sum","data":{"numbers":[40,2]},"created_at":1700000984}','running',NULL,1700000984,NULL,1700000984117000,1700001017371,NULL,1700000987371,1,0,'taskqueue-worker vm 10346',NULL);
INSERT INTO "tasks" VALUES('2fd8be04-6dfd-414e-a886-6ee81af7999c','{"id":"2fd8be04-6dfd-414e-a886-6ee81af7999c","action":"uppercase","data":{"text":"waiting é"},"created_at":1700000987}','queued',NULL,1700000987,NULL,1700000987577000,NULL,1700000987590,NULL,0,0,NULL,NULL);
INSERT INTO "tasks" VALUES('c04f9355-200b-4f7e-b8d9-ccd8e52e3753','{"id":"c04f9355-200b-4f7e-b8d9-ccd8e52e3753","action":"sum","data":{"numbers":[3,4]},"created_at":1700000987}','queued',NULL,1700000987,NULL,1700000987591000,NULL,1700000987596,NULL,0,0,NULL,NULL);
INSERT INTO "tasks" VALUES('48379368-e4d9-48bd-8e3f-a00a441b18b1','{"id":"48379368-e4d9-48bd-8e3f-a00a441b18b1","action":"anything","data":{"x":"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"},"created_at":1700000987}','queued',NULL,1700000987,NULL,1700000987605000,NULL,1700000987610,NULL,0,0,NULL,NULL);
INSERT INTO "tasks" VALUES('d7c17b2b-23e4-4468-a070-cdf459eeae08','{"id":"d7c17b2b-23e4-4468-a070-cdf459eeae08","action":"uppercase","data":{"text":"without broker"},"created_at":1700000990}','pending',NULL,1700000990,NULL,1700000990488000,1700000998488,NULL,NULL,0,0,NULL,NULL);
INSERT INTO "tasks" VALUES('2b9024b8-cd66-4f23-901d-408b61480c02','{"id":"2b9024b8-cd66-4f23-901d-408b61480c02","action":"sum","data":{"numbers":[5]},"created_at":1700000990}','pending',NULL,1700000990,NULL,1700000990499000,1700000998499,NULL,NULL,0,0,NULL,NULL);
CREATE INDEX ix_tasks_accepted_at ON tasks (accepted_at);
CREATE INDEX ix_tasks_status_accepted_at ON tasks (status, accepted_at);
CREATE INDEX ix_tasks_due_at ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_tasks_queued_at ON tasks (queued_at) WHERE queued_at IS NOT NULL;
COMMIT;
